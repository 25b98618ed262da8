"""Which files make up an ONNX vision model, and what lies beside them to describe it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.folder import inside, read_json
from llama_pajamas_run_core.artifacts.vision.graph import section
from llama_pajamas_run_core.errors import BadInput

#: Graphs of an image encoder, with the text encoder that belongs to each.
PAIRS: Final = {"vision_model": "text_model", "image": "text"}


@dataclass(frozen=True, slots=True)
class VisionFiles:
    """The files of one model.

    Attributes:
        image: the graph that takes images.
        text: the graph of a text encoder beside it, or None.
        tokenizer: tokenizer.json, or None.
        config: config.json, empty where there is none.
        preprocessor: Hugging Face's preprocessor_config.json, empty where there is none.
        tokenizer_config: Hugging Face's tokenizer_config.json, empty where there is none.
    """

    image: Path
    text: Path | None = None
    tokenizer: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)


def find_files(path: Path) -> VisionFiles:
    """Find a model's files.

    Args:
        path: the graph, or the folder it lies in; Hugging Face's layout with graphs in ``onnx/`` is understood.

    Raises:
        BadInput: there is no such file or folder, or the folder has no graph that can be chosen.
        LoadError: a file beside the graph is no JSON.
    """
    if not path.exists():
        raise BadInput(f"There is no file {path}.", param="model")
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and folder.name == "onnx" and not (folder / "config.json").exists():
        folder = folder.parent
    config = read_json(folder / "config.json")
    graphs = section(config, "graphs")
    image = path
    if path.is_dir():
        image = inside(folder, graphs["image"], "config.json") if "image" in graphs else _image_graph(folder)
    text = inside(folder, graphs["text"], "config.json") if "text" in graphs else _text_graph(image)
    tokenizer = inside(folder, section(config, "text").get("tokenizer", "tokenizer.json"), "config.json")
    return VisionFiles(
        image,
        text,
        tokenizer if tokenizer.is_file() else None,
        config,
        read_json(folder / "preprocessor_config.json"),
        read_json(folder / "tokenizer_config.json"),
    )


def _image_graph(folder: Path) -> Path:
    for place in (folder, folder / "onnx"):
        for name in (*PAIRS, "model"):
            if (place / f"{name}.onnx").is_file():
                return place / f"{name}.onnx"
    found = sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(f"{folder} holds no .onnx file.", param="model")
    names = ", ".join(str(file.relative_to(folder)) for file in found)
    raise BadInput(f"{folder} holds several graphs: {names}.", hint="Name the one to load.", param="model")


def _text_graph(image: Path) -> Path | None:
    for name, partner in PAIRS.items():
        if image.stem == name or image.stem.startswith(f"{name}_"):
            variant = image.stem.removeprefix(name)
            for stem in (partner + variant, partner):
                if (image.parent / f"{stem}.onnx").is_file():
                    return image.parent / f"{stem}.onnx"
    return None
