"""The starter models as entries of the catalogue: the models that a package brings.

The checkpoints ship with the package; what llama.cpp and whisper.cpp load is derived from them when it is first asked
for, into the cache folder under the hash of what it is made from.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.artifacts.catalogue import Artifact, ModelEntry
from llama_pajamas_run_core.artifacts.places import cache_dir
from llama_pajamas_run_core.types.tasks import Task

#: The folder of the checkpoints, one folder each.
MODELS: Final = Path(__file__).parent / "models"
_RELEASED: Final = 1795219200  # 2026-11-21
_WEIGHTS: Final = "model.safetensors"
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

        target.unlink()  # a file of that name is kept for it, and it becomes a folder
        mlx_folder.write(target, Checkpoint.load(folder))

    def write_onnx(target: Path) -> None:
        from llama_pajamas_run_onnx.export import export
        from llama_pajamas_starter.speech import hugging_face
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        with tempfile.TemporaryDirectory() as between:
            target.unlink()  # a file of that name is kept for it, and it becomes a folder
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
            Artifact(
                "onnx-whisper",
                lambda: _derived("speech.onnx.d", [*sources, code / "hugging_face.py"], write_onnx),
                2 * size,
                {"short_context": True},
            ),
            *_coreml("coreml-whisper", "speech.coreml", [*sources, code / "hugging_face.py"], write_coreml, size),
        ),
        "Hears English sentences of the starter models' vocabulary (Whisper architecture).",
        created=_RELEASED,
        aliases=("whisper-1",),
        default=True,
    )


def _vision(name: str) -> Callable[[Path], ModelEntry]:
    def make(folder: Path) -> ModelEntry:
        both = "embed_text" in _ABILITIES[name]
        sources = [folder / _WEIGHTS, folder / "config.json", *sorted(folder.glob("*.onnx"))]
        return ModelEntry(
            f"starter-{name}",
            Task.VISION,
            (
                Artifact("onnx-vision", lambda: folder, _size(folder)),
                *_coreml(
                    "coreml",
                    f"{name}.coreml" if both else f"{name}.mlpackage",
                    sources,
                    lambda target: _export_coreml(folder, target),
                    _size(folder),
                ),
            ),
            _VISION[name],
            created=_RELEASED,
            default=True,
            abilities=frozenset(_ABILITIES[name]),
        )

    return make


def _coreml(
    kind: str, name: str, sources: Sequence[Path], write: Callable[[Path], None], size: int
) -> tuple[Artifact, ...]:
    """The artifact for Core ML, where what makes it is installed; arguments as of :func:`_derived`."""
    if any(find_spec(needed) is None for needed in ("coremltools", "onnx", "safetensors", "llama_pajamas_run_coreml")):
        return ()
    return (Artifact(kind, lambda: _derived(name, sources, write), size),)


def _export_coreml(source: Path, target: Path) -> None:
    from llama_pajamas_run_coreml.export import export
    from llama_pajamas_run_coreml.export.options import ExportOptions

    target.unlink()  # a file of that name is kept for it, and it becomes a folder
    with tempfile.TemporaryDirectory() as between:  # a package's name has to end as packages' do
        made = Path(between) / ("made.mlpackage" if ".mlpackage" in target.name else "made")
        export(source, made, ExportOptions(measure=False))
        shutil.move(made, target)


def _size(folder: Path) -> int:
    return (folder / _WEIGHTS).stat().st_size


def _derived(name: str, sources: Sequence[Path], write: Callable[[Path], None]) -> Path:
    """A file or folder made from others, made once: its name has the hash of what it is made from, the code included.

    Args:
        name: what it is called, before the hash.
        sources: what it is made from.
        write: writes it to a path, where there is an empty file.
    """
    digest = hashlib.sha256()
    for source in sources:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    plain = Path(name)
    target = cache_dir() / "starter" / f"{plain.stem}-{digest.hexdigest()[:16]}{plain.suffix}"
    with _deriving:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
            os.close(handle)
            try:
                write(Path(part))
                os.replace(part, target)
            except BaseException:
                if Path(part).is_dir():
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    Path(part).unlink(missing_ok=True)
                raise
    return target
