"""A graph as Polygraphy prints it."""

from pathlib import Path

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_tensorrt.export.graph import describe, load, need


def graph_summary(path: Path) -> str:
    """The inputs, outputs and kinds of layers of an ONNX graph, and what its outputs look like.

    Args:
        path: the file, or a folder with one or several.

    Raises:
        BadInput: there is no such file.
        LoadError: it is damaged.
    """
    files = [path] if not path.is_dir() else sorted([*path.glob("*.onnx"), *path.glob("onnx/*.onnx")])
    if not files:
        raise BadInput(f"{path} holds no .onnx file.", param="model")
    return "\n\n".join(_summary(file) for file in files)


def _summary(file: Path) -> str:
    model = load(file)
    text: str = need("polygraphy.backend.onnx.util").str_from_onnx(model)
    heads = [f"{one.name}: {one.head}" for one in describe(model, (), {}).outputs if one.head]
    return "\n".join([f"{file}", text.rstrip(), *(["Heads: " + ", ".join(heads)] if heads else [])])
