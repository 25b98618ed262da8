"""Embeddings, in a context of their own that is made when the first one is wanted."""

from collections.abc import Iterator, Sequence
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.language.embedding import tokens_to_embed
from llama_pajamas_run_gguf._session import ContextSettings, Session
from llama_pajamas_run_gguf.engine.batch import Batch
from llama_pajamas_run_gguf.tokenizer import Tokenizer

#: Pooling needs all tokens of a text in one call; longer calls cost memory, whether used or not.
_MAX_BATCH = 2048
_MAX_TEXTS = 16


class Embedder:
    """Maps texts to vectors, several in each call of llama.cpp.

    The model's own pooling is used; models that were made to write text have none, and get the mean.

    Args:
        session: the loaded model.
        tokenizer: of the model.
        limit: the most tokens of a text.
        threads: to compute with.
    """

    def __init__(self, session: Session, tokenizer: Tokenizer, *, limit: int, threads: int) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._threads = threads
        self._context: Any = None
        self.limit = min(limit, session.trained_context, _MAX_BATCH)
        self._batch = Batch(self.limit)
        pooled = session.metadata.get(f"{session.architecture}.pooling_type")
        self._pooling = llama_cpp.LLAMA_POOLING_TYPE_MEAN if pooled in (None, "0") else -1

    def encode(self, source: str | tuple[int, ...], index: int) -> list[int]:
        """A text's tokens. May be called from any thread.

        Raises:
            BadInput: a token id does not exist, or there is none.
            ContextTooLong: there are more than fit.
        """
        return tokens_to_embed(source, index, tokenizer=self._tokenizer, limit=self.limit)

    def batches(self, texts: Sequence[list[int]]) -> Iterator[list[list[int]]]:
        """Cut texts into groups that one call takes."""
        group: list[list[int]] = []
        size = 0
        for tokens in texts:
            if group and (size + len(tokens) > self.limit or len(group) == _MAX_TEXTS):
                yield group
                group, size = [], 0
            group.append(tokens)
            size += len(tokens)
        if group:
            yield group

    def embed(self, texts: Sequence[list[int]]) -> npt.NDArray[np.float32]:
        """One group's vectors, float32 [n, d]. Runs on the owner thread."""
        context = self._open()
        memory = llama_cpp.llama_get_memory(context)
        if memory:
            llama_cpp.llama_memory_clear(memory, True)
        self._batch.clear()
        for number, tokens in enumerate(texts):
            self._batch.add(np.asarray(tokens, np.int32), 0, number, wanted=len(tokens))
        run = llama_cpp.llama_decode if memory else llama_cpp.llama_encode
        if code := run(context, self._batch.native):
            raise InferenceError(f"The texts could not be embedded: llama.cpp's code is {code}.")
        size = llama_cpp.llama_model_n_embd_out(self._session.model)
        if llama_cpp.llama_pooling_type(context) == llama_cpp.LLAMA_POOLING_TYPE_RANK:
            size = llama_cpp.llama_model_n_cls_out(self._session.model)
        rows = [llama_cpp.llama_get_embeddings_seq(context, number) for number in range(len(texts))]
        if not all(rows):
            raise InferenceError("llama.cpp gave no embeddings.")
        return np.stack([np.ctypeslib.as_array(row, (size,)).copy() for row in rows])

    def close(self) -> None:
        """Let go of the context, which the session frees."""
        self._context = None

    def _open(self) -> Any:
        if self._context is None:
            self._context = self._session.open_context(
                ContextSettings(
                    cells=self.limit,
                    sequences=_MAX_TEXTS,
                    batch=self.limit,
                    threads=self._threads,
                    embeddings=True,
                    pooling=self._pooling,
                )
            )
        return self._context
