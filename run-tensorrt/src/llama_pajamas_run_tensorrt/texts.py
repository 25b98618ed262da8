"""The text encoder beside an image encoder, as a TensorRT engine of its own."""

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.artifacts.vision.files import PAIRS, VisionFiles, find_files
from llama_pajamas_run_core.artifacts.vision.graph import Tensor, section
from llama_pajamas_run_core.artifacts.vision.text import TextEncoder
from llama_pajamas_run_tensorrt._device import GPU
from llama_pajamas_run_tensorrt._session import Session
from llama_pajamas_run_tensorrt.derive import engine_for, is_onnx
from llama_pajamas_run_tensorrt.export.options import BuildOptions, parse_precision

logger = logging.getLogger(__name__)

#: Texts that go through an engine at once, and their tokens where nothing else tells.
_BATCH: Final = (1, 8, 32)
_TOKENS: Final = 77


class TextEngine:
    """A loaded text engine, as :class:`~llama_pajamas_run_core.artifacts.vision.text.TextEncoder` wants it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.path = session.path
        self.inputs = tuple(Tensor(one.name, one.shape, one.dtype) for one in session.inputs)
        self.outputs = tuple(Tensor(one.name, one.shape, one.dtype) for one in session.outputs)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        """Run it; the outputs in the engine's order."""
        made = self._session.infer({name: np.asarray(array) for name, array in feeds.items()})
        return list(made.values())


def is_text(engine: Path) -> bool:
    """Whether an engine is the text half of a pair, by the names of both."""
    return any(
        engine.stem == text and engine.with_name(f"{image}{engine.suffix}").is_file() for image, text in PAIRS.items()
    )


def text_files(path: Path) -> VisionFiles | None:
    """The files of a model's text encoder; None where there is none, or nothing to cut texts with.

    Args:
        path: what the vision room was asked to load: an ONNX model or engines, a file or a folder.

    Raises:
        LoadError: a file beside it is damaged.
    """
    files = find_files(path) if is_onnx(path) else _engines_of(path)
    if files is None or files.text is None or files.tokenizer is None:
        return None
    if find_spec("tokenizers") is None:
        logger.warning("model=%s embeds no texts: the package tokenizers is not installed", path)
        return None
    return files


def _engines_of(path: Path) -> VisionFiles | None:
    folder = path if path.is_dir() else path.parent
    for image, text in PAIRS.items():
        engine, tokenizer = folder / f"{text}.engine", folder / "tokenizer.json"
        asked_for = path.is_dir() or path.stem == image
        if asked_for and engine.is_file() and tokenizer.is_file():
            return VisionFiles(
                folder / f"{image}.engine",
                engine,
                tokenizer,
                read_json(folder / "config.json"),
                tokenizer_config=read_json(folder / "tokenizer_config.json"),
            )
    return None


def open_texts(
    files: VisionFiles, device: GPU, *, precision: str = "fp16", level: int = 3, **running: Any
) -> tuple[Session, TextEncoder]:
    """Load the text encoder; an engine is built of an ONNX graph when it is first asked for.

    Args:
        files: the model's files, with a text encoder.
        device: the GPU.
        precision: what an engine is built in.
        level: how long TensorRT searches, 0 to 5.
        running: further arguments of the session.

    Returns:
        the session, to be closed by the caller, and the encoder on it.

    Raises:
        BadInput, LoadError, MissingDependency, OutOfMemory, Unsupported: as building and loading raise them.
    """
    engine = files.text
    assert engine is not None
    if is_onnx(engine):
        engine = engine_for(engine, _options(files, precision, level), device=device, task="vision")
    session = Session(engine, device=device.index, **running)
    try:
        return session, TextEncoder(files, TextEngine(session), min(session.max_batch, _BATCH[2]))
    except BaseException:
        session.close()
        raise


def _options(files: VisionFiles, precision: str, level: int) -> BuildOptions:
    """Any number of tokens up to the model's, where its graph leaves that free."""
    from llama_pajamas_run_tensorrt.export.graph import describe, load

    assert files.text is not None
    surgery = describe(load(files.text), (), {})
    own, sizes = section(files.config, "text"), section(files.config, "text_config")
    most = int(own.get("length") or sizes.get("max_position_embeddings") or _TOKENS)
    names = {str(size) for one in surgery.inputs for size in one.shape[1:] if not isinstance(size, int)}
    fixed = all(isinstance(one.shape[0], int) for one in surgery.inputs)
    return BuildOptions(
        precision=parse_precision(precision),
        batch=None if fixed else _BATCH,
        dims=dict.fromkeys(names, (1, min(16, most), most)),
        level=level,
    )
