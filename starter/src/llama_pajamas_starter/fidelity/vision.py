"""The vision models in every runtime, on the same held-out pictures: mAP, top-1, retrieval, and likeness of vectors."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import PajamasError
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_starter.fidelity import coreml
from llama_pajamas_starter.fidelity.subjects import Subject, catalogued, reason
from llama_pajamas_starter.vision import evaluate
from llama_pajamas_starter.vision.evaluate import retrieval_set

Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class Likeness:
    """How like one another the vectors of several runtimes are."""

    _first: tuple[str, Floats] | None = field(default=None)

    def note(self, subject: str, vectors: Floats) -> str:
        """What to say of a runtime's vectors, float32 [n, d] of length 1; the first runtime's are the measure."""
        if self._first is None:
            self._first = subject, vectors
            return ""
        name, others = self._first
        cosines = (vectors * others).sum(axis=1)
        return f"cosine to {name}: {cosines.mean():.6f}, least {cosines.min():.6f}"


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured of a vision model.

    Attributes:
        model: "detect", "classify" or "embed".
        what: the figure's name.
        floor: of runtimes that compute in 16 or 32 bits.
        run: (figure, vectors or None) of a backend on so many pictures.
    """

    model: str
    what: str
    floor: float
    run: Callable[[VisionBackend, int], tuple[float, Floats | None]]


def rows(machine: Machine, images: int) -> Iterator[Row]:
    """A row for each model, runtime and precision."""
    for measure in MEASURES:
        likeness = Likeness()
        with tempfile.TemporaryDirectory() as folder:
            for subject in subjects(machine, measure.model):
                yield _row(measure, subject, Path(folder), images, likeness)


def subjects(machine: Machine, model: str) -> list[Subject[VisionBackend]]:
    """The runtimes and precisions."""

    def one(name: str, runtime: str, **options: Any) -> Subject[VisionBackend]:
        return Subject(name, catalogued(machine, Task.VISION, f"starter-{model}", runtime, **options))

    return [
        one("ONNX Runtime, FP32", "onnx"),
        *(Subject(name, coreml.vision(model, kind), exact=kind == "none") for kind, name in coreml.NAMES.items()),
        one("TensorRT, FP16", "tensorrt", level=1),  # to be fast is not asked of it here
    ]


def _row(
    measure: Measure, subject: Subject[VisionBackend], folder: Path, images: int, likeness: Likeness
) -> Row:  # fmt: skip
    model, floor = f"starter-{measure.model}", measure.floor if subject.exact else None
    try:
        with subject.open(folder) as backend:
            begun = time.perf_counter()
            value, vectors = measure.run(backend, images)
            spent = time.perf_counter() - begun
    except PajamasError as error:
        return Row(model, measure.what, None, floor, 0, 0.0, subject=subject.name, note=reason(error))
    note = "" if vectors is None else likeness.note(subject.name, vectors)
    return Row(model, measure.what, value, floor, images, spent, subject=subject.name, note=note)


def _detect(backend: VisionBackend, count: int) -> tuple[float, Floats | None]:
    return evaluate.detector(backend, count)["mAP50"], None


def _classify(backend: VisionBackend, count: int) -> tuple[float, Floats | None]:
    return evaluate.classifier(backend, count)["top-1"], None


def _embed(backend: VisionBackend, count: int) -> tuple[float, Floats | None]:
    pairs = retrieval_set(count)
    pictures = np.concatenate([backend.embed([picture]) for picture, _ in pairs])
    texts = backend.embed_text([text for _, text in pairs])
    found = (texts @ pictures.T).argmax(axis=1) == np.arange(count)
    return float(found.mean()), np.concatenate([pictures, texts])


#: The figures.
MEASURES: Final = (
    Measure("detect", "mAP50 on held-out scenes", 0.95, _detect),
    Measure("classify", "top-1 on held-out images", 0.95, _classify),
    Measure("embed", "text to image R@1 on held-out images", 0.85, _embed),
)
