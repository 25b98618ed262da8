"""Core ML packages of the starter models, computed by run-coreml's reference evaluator: what a Mac would be given."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import MissingDependency
from llama_pajamas_starter.catalogue import MODELS

#: How Core ML's subjects are called, by how the weights are stored.
NAMES: Final = {"none": "Core ML, FP16 (evaluated)", "int8": "Core ML, INT8 weights (evaluated)"}


def vision(name: str, compression: str) -> Callable[[Path], VisionBackend]:
    """A starter vision model.

    Args:
        name: "detect", "classify" or "embed".
        compression: a key of :data:`NAMES`.
    """

    def open(folder: Path) -> VisionBackend:
        package = folder / f"coreml-{name}-{compression}{'' if name == 'embed' else '.mlpackage'}"
        _export(MODELS / name, package, compression)
        from llama_pajamas_run_coreml.vision import CoreMLVisionBackend

        return CoreMLVisionBackend(package, compute_units="reference")

    return open


def speech(compression: str) -> Callable[[Path], STTBackend]:
    """The starter speech model.

    Args:
        compression: a key of :data:`NAMES`.
    """

    def open(folder: Path) -> STTBackend:
        from llama_pajamas_starter.speech import hugging_face
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        checkpoint = hugging_face.write(folder / "hugging-face", Checkpoint.load(MODELS / "speech"))
        package = folder / f"coreml-speech-{compression}"
        _export(checkpoint, package, compression)
        from llama_pajamas_run_coreml.stt import CoreMLSTTBackend

        return CoreMLSTTBackend(package, compute_units="reference")

    return open


def _export(source: Path, target: Path, compression: str) -> None:
    try:
        from llama_pajamas_run_coreml.export import export
        from llama_pajamas_run_coreml.export.options import ExportOptions
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Core ML", package="llama-pajamas-run-coreml", install="uv pip install 'llama-pajamas-run-coreml[export]'"
        ) from error
    if not target.exists():
        export(source, target, ExportOptions(compression=compression, measure=False))
