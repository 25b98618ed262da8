"""What a file or folder is, told from its bytes; names and extensions are not believed."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.artifacts.ggml import MAGIC as GGML_MAGIC
from llama_pajamas_run_core.artifacts.ggml import check_ggml_whisper
from llama_pajamas_run_core.artifacts.gguf import MAGIC as GGUF_MAGIC
from llama_pajamas_run_core.artifacts.gguf import check_gguf
from llama_pajamas_run_core.artifacts.onnx import check_onnx, looks_like_onnx
from llama_pajamas_run_core.artifacts.safetensors import check_safetensors, looks_like_safetensors
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.types.tasks import Task

__all__ = [
    "FORMATS",
    "Format",
    "check_ggml_whisper",
    "check_gguf",
    "check_onnx",
    "check_safetensors",
    "identify",
    "size_of",
]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of artifact.

    Attributes:
        name: as runtimes name it in their rooms ("gguf").
        label: for people ("a GGUF model").
        task: what a model in this format does; None where it is no model by itself.
        advice: what to do with it where no backend loads it as it is.
    """

    name: str
    label: str
    task: Task | None
    advice: str | None = None


GGUF: Final = Format("gguf", "a GGUF model", Task.LLM)
MMPROJ: Final = Format(
    "mmproj", "a GGUF multimodal projector", None, "It goes beside the language model it belongs to: load that one."
)
GGML_WHISPER: Final = Format("ggml-whisper", "a whisper.cpp model", Task.STT)
ONNX_VISION: Final = Format("onnx-vision", "an ONNX vision model", Task.VISION)
ONNX_WHISPER: Final = Format("onnx-whisper", "an ONNX Whisper model", Task.STT)
PIPER: Final = Format("piper", "a Piper voice", Task.TTS)
KOKORO: Final = Format("kokoro", "a Kokoro model", Task.TTS)
SYSTEM_VOICE: Final = Format("system-voice", "the system's voice", Task.TTS)
MLX: Final = Format("mlx", "an MLX language model", Task.LLM)
MLX_WHISPER: Final = Format("mlx-whisper", "an MLX Whisper model", Task.STT)
COREML: Final = Format("coreml", "a Core ML vision model", Task.VISION)
COREML_WHISPER: Final = Format("coreml-whisper", "a Core ML Whisper model", Task.STT)
TENSORRT: Final = Format("tensorrt", "a TensorRT vision engine", Task.VISION)
TENSORRT_WHISPER: Final = Format("tensorrt-whisper", "a Whisper model in TensorRT engines", Task.STT)
SAFETENSORS: Final = Format(
    "safetensors", "a safetensors file", None, "A checkpoint has to be converted: to GGUF for llama.cpp, or to ONNX."
)
HUGGING_FACE_LLM: Final = Format("huggingface-llm", "a language model in Hugging Face's format", Task.LLM)
HUGGING_FACE: Final = Format(
    "huggingface", "a Hugging Face checkpoint", None, "Pull or make a GGUF or ONNX version of it."
)

#: Every format, by name.
FORMATS: Final = {
    known.name: known
    for known in (
        GGUF, MMPROJ, GGML_WHISPER, ONNX_VISION, ONNX_WHISPER, PIPER, KOKORO, SYSTEM_VOICE, MLX, MLX_WHISPER, COREML,
        COREML_WHISPER, TENSORRT, TENSORRT_WHISPER, SAFETENSORS, HUGGING_FACE_LLM, HUGGING_FACE,
    )
}  # fmt: skip

#: Files that are told by how they begin, with what to say about them; none of them is a model.
_STRANGERS: Final[tuple[tuple[bytes, str, str | None], ...]] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run `git lfs pull` where it came from."),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint", "Such files can run code when loaded; convert it."),
    (b"\x80\x02", "a pickle, perhaps an old PyTorch checkpoint", "Such files can run code when loaded; convert it."),
    (b"tjgg", "a model in llama.cpp's format of before 2023-08", "Convert it to GGUF."),
    (b"fmgg", "a model in llama.cpp's format of before 2023-08", "Convert it to GGUF."),
    (b"<!DOCTYPE", "a web page", "The download link led to a page instead of the file."),
    (b"<html", "a web page", "The download link led to a page instead of the file."),
    (b"\x89PNG", "a picture", None),
    (b"\xff\xd8\xff", "a picture", None),
    (b"RIFF", "a sound or a picture", None),
)
_TENSORRT_MAGIC: Final = b"ftrt"


def identify(path: str | PathLike[str]) -> Format:
    """Tell what a file or folder is, and see that it is whole.

    Args:
        path: the file or folder.

    Raises:
        BadInput: there is no such file, or it is of no known format.
        LoadError: the format is known, but the file is damaged; the message names it and what is wrong.
    """
    path = Path(path)
    if path.is_dir():
        return _identify_folder(path)
    if not path.exists():
        raise BadInput(f"There is no file {path}.", param="model")
    return _identify_file(path)


def size_of(path: str | PathLike[str]) -> int:
    """Bytes on disk of an artifact: a folder with all that is in it, a file with the others that it refers to."""
    path = Path(path)
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    head = _head(path)
    files: tuple[Path, ...] = (path,)
    if head.startswith(GGUF_MAGIC):
        files = check_gguf(path).parts
    elif looks_like_onnx(head):
        files = (path, *check_onnx(path).external)
    return sum(file.stat().st_size for file in files)


def _head(path: Path, count: int = 64) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.", param="model") from error


def _identify_file(path: Path) -> Format:
    head = _head(path)
    if not head:
        raise LoadError(f"{path} is empty.", hint="Fetch it again.")
    if head.startswith(GGUF_MAGIC):
        return MMPROJ if check_gguf(path).architecture == "clip" else GGUF
    if head.startswith(GGML_MAGIC):
        check_ggml_whisper(path)
        return GGML_WHISPER
    if _is_engine(path, head):
        return TENSORRT
    if looks_like_safetensors(head, path.stat().st_size):
        check_safetensors(path)
        return SAFETENSORS
    if looks_like_onnx(head):
        check_onnx(path)
        return _kind_of_onnx(path)
    for magic, what, advice in _STRANGERS:
        if head.startswith(magic):
            raise BadInput(f"{path} is no model: it is {what}.", hint=advice, param="model")
    what = "text" if _is_text(head) else f"unknown; it begins with {head[:8]!r}"
    raise BadInput(f"{path} is no model that can be loaded: its content is {what}.", param="model")


def _is_engine(path: Path, head: bytes) -> bool:
    if head.startswith(_TENSORRT_MAGIC):
        return True
    # Ultralytics puts the length of a JSON text, and the text, before the engine.
    length = int.from_bytes(head[:4], "little")
    if head[4:5] != b"{" or length > 1 << 20:
        return False
    return _head(path, length + 8)[length + 4 :] == _TENSORRT_MAGIC


def _kind_of_onnx(path: Path) -> Format:
    if path.with_name(path.name + ".json").is_file():
        return PIPER
    return KOKORO if _voices(path.parent) else ONNX_VISION


def _voices(folder: Path) -> list[Path]:
    """The files of Kokoro's voices in a folder: "voices-v1.0.bin", which is a zip of arrays."""
    found = [*folder.glob("voices*.bin"), *folder.glob("voices*.npz")]
    return [file for file in sorted(found) if _head(file, 4) == b"PK\x03\x04"]


def _is_text(head: bytes) -> bool:
    try:
        text = head[:60].decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start < 50:  # else the cut may have split a character
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)


def _identify_folder(folder: Path) -> Format:
    for looks in _FOLDERS:
        if (found := looks(folder)) is not None:
            return found
    if models := sorted(file.name for file in folder.glob("*.gguf")):
        raise BadInput(f"{folder} is a folder; name the file in it: {', '.join(models)}.", param="model")
    held = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    raise BadInput(f"{folder} is no model that can be loaded: it holds {held}.", param="model")


def _coreml_folder(folder: Path) -> Format | None:
    if _is_coreml(folder) or _coreml_in(folder, "image"):
        return COREML
    if _coreml_in(folder, "encoder") and _coreml_in(folder, "decoder"):
        return COREML_WHISPER
    return None


def _is_coreml(folder: Path) -> bool:
    package = (folder / "Manifest.json").is_file() and (folder / "Data").is_dir()
    return package or (folder / "coremldata.bin").is_file()


def _coreml_in(folder: Path, name: str) -> bool:
    """Whether a folder holds a package of that name, compiled or not."""
    return any(_is_coreml(folder / f"{name}{suffix}") for suffix in (".mlpackage", ".mlmodelc"))


def _engine_folder(folder: Path) -> Format | None:
    engines = {engine.stem: engine for engine in sorted(folder.glob("*.engine"))}
    if not engines or not all(_is_engine(engine, _head(engine)) for engine in engines.values()):
        return None
    return TENSORRT_WHISPER if {"encoder", "decoder"} <= engines.keys() else TENSORRT


def _onnx_folder(folder: Path) -> Format | None:
    graphs = sorted(folder.glob("*.onnx")) or sorted(folder.glob("onnx/*.onnx"))
    if not graphs:
        return None
    if _is_whisper(folder):
        for graph in graphs:
            check_onnx(graph)
        return ONNX_WHISPER
    kinds = set()
    for graph in graphs:
        if not looks_like_onnx(_head(graph)):
            raise LoadError(f"{graph} is no ONNX file, whatever its name says.", hint="Fetch it again.")
        check_onnx(graph)
        kinds.add(_kind_of_onnx(graph))
    return next(kind for kind in (KOKORO, PIPER, ONNX_VISION) if kind in kinds)


def _is_whisper(folder: Path) -> bool:
    """Whether a folder holds Whisper's graphs: this project's, or those of Hugging Face's optimum."""
    both = any(
        all(list(place.glob(pattern)) for pattern in pair)
        for place in (folder, folder / "onnx")
        for pair in (("encoder.onnx", "decoder.onnx"), ("encoder_model*.onnx", "decoder_model*.onnx"))
    )
    return both and read_json(folder / "config.json").get("model_type") == "whisper"


def _checkpoint_folder(folder: Path) -> Format | None:
    config_file = folder / "config.json"
    shards = sorted(folder.glob("*.safetensors"))
    if not config_file.is_file() or not (shards or (folder / "weights.npz").is_file()):
        return None
    config = read_json(config_file)
    metadata = [check_safetensors(shard) for shard in shards]
    if "n_mels" in config and "n_audio_state" in config:
        return MLX_WHISPER
    if "quantization" in config or any(entry.get("format") == "mlx" for entry in metadata):
        return MLX
    writes = any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in config.get("architectures") or ())
    # Without the fast tokenizer's file, only the code of the model's authors could read its vocabulary.
    return HUGGING_FACE_LLM if writes and (folder / "tokenizer.json").is_file() else HUGGING_FACE


_FOLDERS: Final[tuple[Callable[[Path], Format | None], ...]] = (
    _coreml_folder,
    _engine_folder,
    _onnx_folder,
    _checkpoint_folder,
)
