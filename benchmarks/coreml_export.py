"""What Core ML exports weigh, and what storing the weights in fewer bits changes.

    uv run python benchmarks/coreml_export.py
    uv run python benchmarks/coreml_export.py --models vit-base,whisper-tiny --compressions none,int8 --record shapes

The starter models have their trained weights; the others have random ones of real shapes, whose sizes are those of the
trained models, and whose changes would say nothing. Sizes are of whole packages. A change is measured by the
reference evaluator against the same model in float32: the likeliest class, object or token, and the outputs' cosine.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import speech_models
import vision_models
from common import record

from llama_pajamas_run_coreml.export import ExportOptions, Made, export
from llama_pajamas_starter.catalogue import MODELS
from llama_pajamas_starter.speech import hugging_face
from llama_pajamas_starter.speech.checkpoint import Checkpoint

STARTERS: Final = ("starter-detect", "starter-classify", "starter-embed", "starter-speech")
RANDOM: Final = ("yolov8n", "yolov8n-seg", "resnet50", "vit-base", "whisper-tiny")
_PAIRS: Final = ("starter-embed", "starter-speech", "whisper-tiny")


def source(name: str, scratch: Path) -> Path:
    """The model that is exported."""
    if name == "starter-speech":
        return hugging_face.write(scratch / f"{name}-checkpoint", Checkpoint.load(MODELS / "speech"))
    if name in STARTERS:
        return MODELS / name.removeprefix("starter-")
    if name.startswith("whisper-"):
        return speech_models.write_checkpoint(scratch / f"{name}-checkpoint", name.removeprefix("whisper-"))
    return vision_models.model_path(name)


def measure(name: str, compressions: Sequence[str], target: str, scratch: Path) -> list[dict[str, Any]]:
    """A row for each package of a model and way of storing its weights."""
    model, rows = source(name, scratch), []
    for compression in compressions:
        path = scratch / f"{name}-{compression}{'' if name in _PAIRS else '.mlpackage'}"
        options = ExportOptions(compression=compression, target=target, measure=name in STARTERS, batches=(1,))
        made = export(model, path, options)
        rows += [_row(name, compression, one, whole=len(made) == 1) for one in made]
        print(*made, sep="\n", flush=True)
    return rows


def _row(name: str, compression: str, made: Made, *, whole: bool) -> dict[str, Any]:
    change = made.change
    return {
        "model": name if whole else f"{name} {made.path.stem}",
        "compression": compression,
        "float16_mb": round(made.plain_bytes / 1e6, 2),
        "mb": round(made.bytes / 1e6, 2),
        "share": round(made.bytes / made.plain_bytes, 3),
        "same": None if change is None or change.agreement is None else round(change.agreement, 4),
        "cosine": None if change is None else round(change.cosine, 6),
    }


def main() -> None:
    """Print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join((*STARTERS, *RANDOM)), help="separated by commas")
    parser.add_argument("--compressions", default="none,int8,palette8,palette6,palette4,int4", help="as well")
    parser.add_argument("--target", default="macos15", help="oldest system; int4 needs macos15 or ios18")
    parser.add_argument("--record", default="coreml-export", help="name of the record")
    given = parser.parse_args()
    rows = []
    for name in given.models.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            rows += measure(name, given.compressions.split(","), given.target, Path(scratch))
    print(record.table(list(rows[0]), [list(row.values()) for row in rows]))
    print(record.write(given.record, {"target": given.target, "packages": rows}))


if __name__ == "__main__":
    main()
