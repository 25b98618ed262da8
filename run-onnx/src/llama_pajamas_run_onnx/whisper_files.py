"""Which files make up a Whisper model in ONNX: this project's layout, and that of Hugging Face's optimum."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.whisper.model import WhisperModel
from llama_pajamas_run_core.whisper.sizes import Dimensions, alignment_heads
from llama_pajamas_run_onnx._session import Session
from llama_pajamas_run_onnx.whisper import ONNXWhisper
from llama_pajamas_run_onnx.whisper_optimum import OptimumWhisper

#: The decoders of optimum's layout, the one that does all alone first.
_MERGED, _FIRST, _NEXT = "decoder_model_merged", "decoder_model", "decoder_with_past_model"
_EXPORT: Final = "Export it again: llama-pajamas export onnx CHECKPOINT FOLDER."


@dataclass(frozen=True, slots=True)
class WhisperFiles:
    """The files of one model.

    Attributes:
        encoder: its graph.
        decoders: the graph of the decoder; in optimum's layout without the merged one, that of the first step and that
            of the others.
        sizes: the dimensions.
        heads: (layer, head) pairs of the decoder whose attention follows the speech.
        optimum: whether it is optimum's layout.
    """

    encoder: Path
    decoders: tuple[Path, ...]
    sizes: Dimensions
    heads: tuple[tuple[int, int], ...]
    optimum: bool

    def open(self, encoder: Session, *, windows: int, **options: Any) -> WhisperModel:
        """Load the decoder.

        Args:
            encoder: the loaded encoder.
            windows: how many windows of audio are computed together at most.
            options: of the decoder's session.
        """
        decoders = tuple(Session(file, **options) for file in self.decoders)
        if self.optimum:
            return OptimumWhisper(encoder, decoders, self.sizes, self.heads, windows=windows)
        return ONNXWhisper(encoder, decoders[0], self.sizes, windows=windows)


def find_whisper(path: Path, variant: str | None = None) -> WhisperFiles:
    """Find a model's files.

    Args:
        path: the folder; of a hub's repository with graphs in ``onnx/``, the repository's.
        variant: the precision of optimum's graphs ("fp16", "quantized", ...), or None for the plain ones, or for those
            that there are if there are only others.

    Raises:
        BadInput: there is no such folder, or it holds no Whisper model, or none of that variant.
        LoadError: config.json is missing or damaged.
    """
    if not path.exists():
        raise BadInput(f"There is no folder {path}.", param="model")
    folder = path if path.is_dir() else path.parent
    if folder.name == "onnx" and not (folder / "config.json").is_file():
        folder = folder.parent
    config = read_json(folder / "config.json")
    if not config:
        raise LoadError(f"{folder} has no config.json, so the model's sizes are not known.", hint=_EXPORT)
    sizes = Dimensions.of(config)
    generation = read_json(folder / "generation_config.json")
    heads = alignment_heads(generation.get("alignment_heads") or config.get("alignment_heads"), sizes)
    ours = (folder / "encoder.onnx", folder / "decoder.onnx")
    if variant is None and all(file.is_file() for file in ours):
        return WhisperFiles(ours[0], ours[1:], sizes, heads, optimum=False)
    places = (folder, folder / "onnx")
    encoders = [file for place in places for file in place.glob("encoder_model*.onnx")]
    endings = {file.name.partition("encoder_model")[2] for file in encoders}
    ending = f"_{variant}.onnx" if variant else ".onnx"
    if not variant and len(endings) == 1:
        (ending,) = endings
    for place in places:
        encoder = place / f"encoder_model{ending}"
        for names in ((_MERGED,), (_FIRST, _NEXT)):
            decoders = tuple(place / f"{name}{ending}" for name in names)
            if all(file.is_file() for file in (encoder, *decoders)):
                return WhisperFiles(encoder, decoders, sizes, heads, optimum=True)
    found = [str(file.relative_to(folder)) for file in (*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx"))]
    what = "Whisper model in ONNX" if variant is None else f"Whisper model of the variant '{variant}'"
    held = ", ".join(sorted(found)) or "no graphs"
    raise BadInput(f"{folder} holds no {what}: there is {held}.", hint=_EXPORT, param="model")
