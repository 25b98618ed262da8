"""Texts as a CLIP-style text encoder wants them: token ids, padded, with their mask."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.files import VisionFiles
from llama_pajamas_run_core.artifacts.vision.graph import Tensor, section
from llama_pajamas_run_core.artifacts.vision.spec import vector_output
from llama_pajamas_run_core.errors import LoadError, MissingDependency, TooLarge

#: The most texts that go through the encoder at once.
_BATCH = 32


class TextSession(Protocol):
    """A loaded text graph, in whatever runtime."""

    @property
    def path(self) -> Path:
        """Its file, for messages."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """What it gives."""

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        """Run it; the outputs in the graph's order."""


class TextEncoder:
    """A graph that maps token ids to vectors, with its tokenizer.

    Args:
        files: the model's files, with a tokenizer.
        session: the loaded text graph, or the graph that also takes images.
        batch: the most texts that go through it at once.

    Raises:
        LoadError: the tokenizer is missing or damaged.
        MissingDependency: the package tokenizers is not installed.
    """

    def __init__(self, files: VisionFiles, session: TextSession, batch: int = _BATCH) -> None:
        if files.tokenizer is None:
            raise LoadError(f"The text encoder {session.path} has no tokenizer.json beside it.", hint="Fetch it too.")
        self._session, self._batch = session, batch
        self._ids = next((one for one in session.inputs if one.name == "input_ids"), session.inputs[0])
        names = [one.name for one in session.outputs]
        self._output = names.index("text_embeds") if "text_embeds" in names else vector_output(session.outputs)
        self._tokenizer = load_tokenizer(files.tokenizer)
        own, sizes = section(files.config, "text"), section(files.config, "text_config")
        self._limit = int(own.get("length") or sizes.get("max_position_embeddings") or self._ids.size(1) or 77)
        # SigLIP reads the padding too, so there has to be as much of it as in training.
        fixed = own.get("length") or (self._limit if "siglip" in str(files.config.get("model_type")) else None)
        self._length = self._ids.size(1) or fixed
        self._pad = own.get("pad_id", _pad_id(self._tokenizer, files.tokenizer_config, sizes))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors [n, d] of texts.

        Raises:
            TooLarge: a text has more tokens than the model reads.
        """
        size = self._batch
        made = [self._vectors(texts[start : start + size], start) for start in range(0, len(texts), size)]
        return np.concatenate(made)

    def _vectors(self, texts: Sequence[str], first: int) -> npt.NDArray[np.float32]:
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        for index, row in enumerate(rows):
            if len(row) > self._limit:
                raise TooLarge(
                    f"A text to embed has {len(row)} tokens, but the model reads {self._limit}.",
                    hint="Shorten it.",
                    param=f"input[{first + index}]",
                )
        length = self._length or max(len(row) for row in rows)
        ids = np.full((len(rows), length), self._pad, np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        fixed = self._ids.size(0)
        if fixed is not None:  # a graph for a fixed number of texts
            parts = [self._run(ids[i : i + fixed], mask[i : i + fixed], fixed) for i in range(0, len(ids), fixed)]
            return np.concatenate(parts)
        return self._run(ids, mask, len(ids))

    def _run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
        missing = ((0, count - len(ids)), (0, 0))
        feeds: dict[str, npt.NDArray[Any]] = {}
        for one in self._session.inputs:
            if one.name == "attention_mask":
                feeds[one.name] = np.pad(mask, missing)
            elif one.name == self._ids.name:
                feeds[one.name] = np.pad(ids, missing, constant_values=self._pad)
            elif len(one.shape) == 4:  # the image half of a graph that holds both
                feeds[one.name] = np.zeros([one.size(axis) or (1, 3, 224, 224)[axis] for axis in range(4)], np.float32)
            else:
                feeds[one.name] = np.zeros((count, ids.shape[1]), np.int64)
        vectors = self._session.run(feeds)[self._output][: len(ids)]
        return (vectors[:, 0] if vectors.ndim == 3 else vectors).astype(np.float32)


def load_tokenizer(path: Path) -> Any:
    """The ``tokenizers.Tokenizer`` in a tokenizer.json.

    Raises:
        LoadError: the file is none.
        MissingDependency: the package tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependency("Text embeddings", package="tokenizers", install="uv pip install tokenizers") from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise LoadError(f"{path} is no tokenizer: {error}.", hint="Fetch it again.") from error


def _pad_id(tokenizer: Any, settings: Mapping[str, Any], sizes: Mapping[str, Any]) -> int:
    """The token that fills short rows: CLIP fills them with its end token."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    for key in ("pad_token", "eos_token"):
        token = settings.get(key)
        text = token.get("content") if isinstance(token, dict) else token
        number = None if text is None else tokenizer.token_to_id(text)
        if number is not None:
            return int(number)
    return int(sizes.get("pad_token_id") or 0)
