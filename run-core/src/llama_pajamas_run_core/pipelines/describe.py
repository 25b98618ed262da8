"""What a picture shows, in words: a detector's findings given to a language model that reads no images."""

import json
from collections.abc import Sequence

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.types.chat import Chat, GenerationOptions, GenerationRequest, Message
from llama_pajamas_run_core.types.vision import Detection, DetectOptions, Image


def detections_as_text(detections: Sequence[Detection]) -> str:
    """A detection list as JSON, in the shape of the server's ``/v1/images/detect``: label, confidence, box."""
    return json.dumps(
        [
            {
                "label": found.label,
                "confidence": round(found.confidence, 2),
                "box": {name: round(getattr(found.box, name)) for name in ("x1", "y1", "x2", "y2")},
            }
            for found in detections
        ]
    )


def describe(
    vision: VisionBackend,
    llm: LLMBackend,
    image: Image,
    *,
    question: str = "What do you see?",
    look: DetectOptions | None = None,
    think: GenerationOptions | None = None,
) -> Generation:
    """Answer a question about a picture.

    Args:
        vision: a detector.
        llm: the language model that puts its findings into words.
        image: the picture.
        question: what to ask about it.
        look: how to detect.
        think: how to generate.

    Returns:
        the answer on its way.

    Raises:
        PajamasError: what one of the two raised.
    """
    (detections,) = vision.detect([image], look)
    message = Message("user", f"{detections_as_text(detections)}\n{question}")
    return llm.submit(GenerationRequest(Chat((message,)), think or GenerationOptions(temperature=0.0)))
