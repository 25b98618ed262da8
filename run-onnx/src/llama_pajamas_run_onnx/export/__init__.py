"""Checkpoints as ONNX, written with the onnx package and numpy: nothing of PyTorch is needed.

A family of models is a module with a function that takes a :class:`~.checkpoint.Checkpoint` and a folder, and writes
its graphs there. Importing this package imports neither onnx nor safetensors.
"""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llama_pajamas_run_core.artifacts.whole import check_target, made_whole
from llama_pajamas_run_core.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from llama_pajamas_run_onnx.export.checkpoint import Checkpoint

#: What writes a checkpoint of each ``model_type``: "module:function", a :data:`Writer`.
WRITERS: Final = {
    "clip": "llama_pajamas_run_onnx.export.clip:write",
    "clip_vision_model": "llama_pajamas_run_onnx.export.clip:write",
    "deit": "llama_pajamas_run_onnx.export.vit:write",
    "resnet": "llama_pajamas_run_onnx.export.resnet:write",
    "vit": "llama_pajamas_run_onnx.export.vit:write",
    "whisper": "llama_pajamas_run_onnx.export.whisper:write",
}
#: What weights can be stored as.
PRECISIONS: Final = ("fp32", "fp16")

#: Writes a checkpoint's graphs, and what describes them, into an empty folder. The last argument is one of
#: :data:`PRECISIONS`.
Writer = Callable[["Checkpoint", Path, str], None]


def export(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, precision: str = "fp32", overwrite: bool = False
) -> Path:
    """Write a checkpoint as ONNX.

    Args:
        source: a folder with config.json and model.safetensors (or its parts).
        target: the folder to make.
        precision: how weights are stored, one of :data:`PRECISIONS`; computed is in float32 either way.
        overwrite: whether a folder that is there already may be replaced.

    Returns:
        the folder.

    Raises:
        BadInput: the source is no checkpoint, the precision is unknown, or the target exists, cannot be written, or
            holds the source.
        LoadError: a file of the checkpoint is damaged, or it lacks weights.
        MissingDependency: onnx or safetensors is not installed.
        Unsupported: checkpoints of that model_type are not exported.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if precision not in PRECISIONS:
        raise BadInput(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}.", param="precision")
    check_target(target, source=source, overwrite=overwrite)
    from llama_pajamas_run_onnx.export.checkpoint import Checkpoint

    checkpoint = Checkpoint(source)
    write = _writer(str(checkpoint.config.get("model_type", "")))
    with made_whole(target, overwrite=overwrite) as part:
        part.mkdir()
        write(checkpoint, part, precision)
    return target


def _writer(model_type: str) -> Writer:
    if model_type not in WRITERS:
        raise Unsupported(
            f"Checkpoints of the model_type {model_type!r} are not exported.", hint=f"There are: {', '.join(WRITERS)}."
        )
    module, _, name = WRITERS[model_type].partition(":")
    found: Any = getattr(import_module(module), name)
    writer: Writer = found
    return writer
