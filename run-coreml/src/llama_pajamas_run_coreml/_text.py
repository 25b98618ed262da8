"""Texts as a text encoder in Core ML wants them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.text import load_tokenizer
from llama_pajamas_run_core.errors import LoadError, TooLarge
from llama_pajamas_run_coreml._session import Session
from llama_pajamas_run_coreml.description import TextDescription, from_metadata


class TextEncoder:
    """A package that maps token ids to vectors, with its tokenizer.

    Args:
        package: the text encoder.
        tokenizer: tokenizer.json.
        options: as in :class:`~llama_pajamas_run_coreml._session.Session`.

    Raises:
        LoadError: the package is no text encoder, or a file is damaged.
        MissingDependency: the package tokenizers is not installed.
    """

    def __init__(self, package: Path, tokenizer: Path, **options: Any) -> None:
        self._tokenizer = load_tokenizer(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._session = Session(package, **options)
        description = from_metadata(self._session.metadata, str(package))
        if not isinstance(description, TextDescription):
            self._session.close()
            raise LoadError(f"{package} is a {description.kind}, not a text encoder.")
        self._about = description

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors [n, d] of texts.

        Raises:
            TooLarge: a text has more tokens than the model reads.
        """
        about, most = self._about, max(self._about.batches)
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        for index, row in enumerate(rows):
            if len(row) > about.length:
                raise TooLarge(
                    f"A text to embed has {len(row)} tokens, but the model reads {about.length}.",
                    hint="Shorten it.",
                    param=f"input[{index}]",
                )
        ids = np.full((len(rows), about.length), about.pad_id, np.int32)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        starts = range(0, len(ids), most)
        return np.concatenate([self._predict(ids[i : i + most], mask[i : i + most]) for i in starts])

    def close(self) -> None:
        """Let go of the package."""
        self._session.close()

    def _predict(self, ids: npt.NDArray[np.int32], mask: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        about, count = self._about, len(ids)
        missing = ((0, next(size for size in about.batches if size >= count) - count), (0, 0))
        feeds = {about.input: np.pad(ids, missing, constant_values=about.pad_id)}
        if about.mask is not None:
            feeds[about.mask] = np.pad(mask, missing)
        vectors: npt.NDArray[np.float32] = self._session.predict(feeds)[about.output][:count].astype(np.float32)
        return vectors
