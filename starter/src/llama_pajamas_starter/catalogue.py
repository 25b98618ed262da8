"""The starter models as entries of the catalogue: the models that a package brings.

The checkpoints ship with the package; what llama.cpp and whisper.cpp load is derived from them when it is first asked
for, into the cache folder under the hash of what it is made from.
"""

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.artifacts.catalogue import Artifact, ModelEntry
from llama_pajamas_run_core.artifacts.places import cache_dir
from llama_pajamas_run_core.artifacts.whole import made_whole
from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.types.tasks import Task

#: The folder of the checkpoints, one folder each.
MODELS: Final = Path(__file__).parent / "models"
_RELEASED: Final = 1795219200  # 2026-11-21
_WEIGHTS: Final = "model.safetensors"
#: What makes the artifacts for ONNX Runtime and for Core ML.
_ONNX: Final = ("onnx", "safetensors", "llama_pajamas_run_onnx")
_COREML: Final = ("coremltools", "onnx", "safetensors", "llama_pajamas_run_coreml")
_deriving = threading.Lock()

_VISION: Final = {
    "detect": "Finds drawn objects in pictures (YOLOv8 layout).",
    "classify": "Names the object that a picture shows (ViT).",
    "embed": "Maps pictures and texts to vectors of one space (CLIP style).",
}
_ABILITIES: Final = {"detect": ("detect",), "classify": ("classify",), "embed": ("embed", "embed_text")}


def entries() -> tuple[ModelEntry, ...]:
    """The starter models that this installation has."""
    candidates = (("chat", _chat), ("speech", _speech), *((name, _vision(name)) for name in _VISION))
    return tuple(make(MODELS / name) for name, make in candidates if (MODELS / name / _WEIGHTS).is_file())


def _chat(folder: Path) -> ModelEntry:
    def write(target: Path) -> None:
        from llama_pajamas_starter.chat.to_gguf import convert

        convert(folder, target)

    sources = [folder / name for name in (_WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json")]
    sources.append(Path(__file__).parent / "chat" / "to_gguf.py")
    return ModelEntry(
        "starter-chat",
        Task.LLM,
        (
            Artifact("gguf", lambda: _derived("chat.gguf", sources, write), _size(folder)),
            Artifact("mlx", lambda: folder, _size(folder)),  # mlx-lm reads Hugging Face's checkpoints as they are
        ),
        "A small voice assistant: arithmetic, units, dates, home control, tool calls (Qwen3 architecture).",
        created=_RELEASED,
        default=True,
    )


def _speech(folder: Path) -> ModelEntry:
    def write(target: Path) -> None:
        from llama_pajamas_starter.speech import ggml
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        ggml.write(target, Checkpoint.load(folder))

    def write_mlx(target: Path) -> None:
        from llama_pajamas_starter.speech import mlx_folder
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        mlx_folder.write(target, Checkpoint.load(folder))

    def write_onnx(target: Path) -> None:
        from llama_pajamas_run_onnx.export import export
        from llama_pajamas_starter.speech import hugging_face
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        with tempfile.TemporaryDirectory() as between:
            export(hugging_face.write(between, Checkpoint.load(folder)), target)

    def write_coreml(target: Path) -> None:
        from llama_pajamas_starter.speech import hugging_face
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        with tempfile.TemporaryDirectory() as between:
            _export_coreml(hugging_face.write(between, Checkpoint.load(folder)), target)

    code = Path(__file__).parent / "speech"
    sources = [folder / _WEIGHTS, folder / "config.json", code / "ggml.py", code / "checkpoint.py", code / "tokens.py"]
    sizes = json.loads((folder / "config.json").read_text("utf-8"))["dimensions"]
    # The file has the whole vocabulary as float16, of which the checkpoint stores the few rows that are in use.
    size = _size(folder) + sizes["n_vocab"] * sizes["n_text_state"] * 2
    return ModelEntry(
        "starter-speech",
        Task.STT,
        # Its training saw windows of all lengths, so it need not be shown half a minute for each sentence.
        (
            Artifact("ggml-whisper", lambda: _derived("speech.bin", sources, write), size, {"short_context": True}),
            Artifact(
                "mlx-whisper",
                lambda: _derived("speech.mlx", [*sources, code / "mlx_folder.py"], write_mlx),
                size,
                {"short_context": True},
            ),
            *_exported(
                Artifact(
                    "onnx-whisper",
                    lambda: _derived("speech.onnx.d", [*sources, code / "hugging_face.py"], write_onnx),
                    2 * size,
                    {"short_context": True},
                ),
                _ONNX,
            ),
            *_exported(
                Artifact(
                    "coreml-whisper",
                    lambda: _derived("speech.coreml", [*sources, code / "hugging_face.py"], write_coreml),
                    size,
                ),
                _COREML,
            ),
        ),
        "Hears English sentences of the starter models' vocabulary (Whisper architecture).",
        created=_RELEASED,
        aliases=("whisper-1",),
        default=True,
    )


def _vision(name: str) -> Callable[[Path], ModelEntry]:
    def make(folder: Path) -> ModelEntry:
        package = f"{name}.coreml" if "embed_text" in _ABILITIES[name] else f"{name}.mlpackage"
        sources = [folder / _WEIGHTS, folder / "config.json", *sorted(folder.glob("*.onnx"))]
        return ModelEntry(
            f"starter-{name}",
            Task.VISION,
            (
                Artifact("onnx-vision", lambda: folder, _size(folder)),
                *_exported(
                    Artifact(
                        "coreml",
                        lambda: _derived(package, sources, lambda target: _export_coreml(folder, target)),
                        _size(folder),
                    ),
                    _COREML,
                ),
            ),
            _VISION[name],
            created=_RELEASED,
            default=True,
            abilities=frozenset(_ABILITIES[name]),
        )

    return make


def _exported(artifact: Artifact, makers: Sequence[str]) -> tuple[Artifact, ...]:
    """The artifact, where the packages that make it are installed."""
    return (artifact,) if all(find_spec(maker) is not None for maker in makers) else ()


def _export_coreml(source: Path, target: Path) -> None:
    from llama_pajamas_run_coreml.export import export
    from llama_pajamas_run_coreml.export.options import ExportOptions

    export(source, target, ExportOptions(measure=False))


def _size(folder: Path) -> int:
    return (folder / _WEIGHTS).stat().st_size


def _derived(name: str, sources: Sequence[Path], write: Callable[[Path], None]) -> Path:
    """A file or folder made from others, made once: its name has the hash of what it is made from, the code included.

    Args:
        name: what it is called, before the hash.
        sources: what it is made from.
        write: writes it to a path, where there is nothing yet.

    Raises:
        LoadError: it cannot be written.
    """
    digest = hashlib.sha256()
    for source in sources:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    plain = Path(name)
    target = cache_dir() / "starter" / f"{plain.stem}-{digest.hexdigest()[:16]}{plain.suffix}"
    with _deriving:
        try:
            if not target.exists():
                with made_whole(target) as part:
                    write(part)
        except OSError as error:
            if not target.exists():  # else another process was faster
                raise LoadError(f"{target} could not be made: {error}.") from error
    return target
