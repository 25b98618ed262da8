"""What a package says about itself survives its metadata, and damaged metadata is refused."""

import pytest

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.types.vision import VisionSpec
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_coreml.description import (
    Description,
    Origin,
    TextDescription,
    VisionDescription,
    WhisperDecoderDescription,
    WhisperEncoderDescription,
    from_metadata,
    to_metadata,
)

ORIGIN = Origin("model.onnx", "ab" * 32, "0.1.0", "ios18", "float16", "palette4")
SPEC = VisionSpec(
    frozenset({"embed", "embed_text"}), 96, 64, "crop", (0.5, 0.25, 0.125), (0.1, 0.2, 0.3), ("Käse", "a, b"),
    "embedding", crop=0.875,
)  # fmt: skip
SIZES = Dimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4)
EVERY = [
    VisionDescription(ORIGIN, SPEC, "pixel_values", ("image_embeds",), batches=(1, 2, 4)),
    VisionDescription(ORIGIN, SPEC, "image", ("output0", "output1"), image_input=True),
    TextDescription(ORIGIN, "input_ids", None, "text_embeds", 77, 49407, (1, 16)),
    TextDescription(ORIGIN, "input_ids", "attention_mask", "text_embeds", 77, 49407),
    WhisperEncoderDescription(ORIGIN, SIZES),
    WhisperDecoderDescription(ORIGIN, SIZES, ((1, 2), (3, 5)), True, (1, 32)),
]


@pytest.mark.parametrize("description", EVERY, ids=lambda description: description.kind)
def test_survives(description: Description):
    written = to_metadata(description)

    assert all(isinstance(value, str) and key.startswith("llama_pajamas.") for key, value in written.items())
    assert from_metadata(written | {"com.apple.something": "else"}, "x") == description


def test_reads_well_in_swift():
    written = to_metadata(EVERY[0])

    assert written["llama_pajamas.kind"] == "vision"
    assert written["llama_pajamas.spec.labels"] == '["Käse", "a, b"]'
    assert written["llama_pajamas.spec.width"] == "96"
    assert written["llama_pajamas.origin.target"] == "ios18"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"llama_pajamas.kind": None}, "does not say what it is"),
        ({"llama_pajamas.kind": "juggler"}, "is a juggler"),
        ({"llama_pajamas.spec.width": None}, "damaged.*width"),
        ({"llama_pajamas.spec.mean": "[1,"}, "damaged"),
        ({"llama_pajamas.origin.sha256": None}, "damaged.*sha256"),
    ],
)
def test_damaged(change: dict[str, str | None], message: str):
    metadata = {key: value for key, value in (to_metadata(EVERY[0]) | change).items() if value is not None}

    with pytest.raises(LoadError, match=message):
        from_metadata(metadata, "Seen.mlpackage")
