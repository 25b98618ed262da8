"""Vectors of texts, from what a model makes of their tokens before it turns to the next one."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.language.embedding import tokens_to_embed
from llama_pajamas_run_mlx._session import mapped
from llama_pajamas_run_mlx.tokenizer import Tokenizer

#: Where mlx-lm's models keep what comes before the logits.
_PLACES: Final = (("model",), ("transformer",), ("backbone",), ("language_model", "model"))
#: The most texts, and tokens with their padding, in one computation.
_MAX_TEXTS: Final = 16
_MAX_TOKENS: Final = 4096

Pooling = Literal["mean", "last", "first"]


class Embedder:
    """Maps texts to vectors, several in each computation.

    Args:
        backbone: the model without what makes logits, as :func:`find_backbone` finds it.
        tokenizer: of the model.
        pooling: which tokens' vectors count.
        limit: the most tokens of a text.
    """

    def __init__(self, backbone: nn.Module, tokenizer: Tokenizer, *, pooling: Pooling, limit: int) -> None:
        self._backbone = backbone
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._limit = limit

    def encode(self, source: str | tuple[int, ...], index: int) -> list[int]:
        """A text's tokens. May be called from any thread.

        Raises:
            BadInput: a token id does not exist, or there is none.
            ContextTooLong: there are more than fit.
        """
        return tokens_to_embed(source, index, tokenizer=self._tokenizer, limit=self._limit)

    def batches(self, texts: Sequence[list[int]]) -> Iterator[list[list[int]]]:
        """Cut texts into groups for one computation each."""
        group: list[list[int]] = []
        for tokens in texts:
            longest = max([len(tokens), *map(len, group)])
            if group and (len(group) == _MAX_TEXTS or longest * (len(group) + 1) > _MAX_TOKENS):
                yield group
                group = []
            group.append(tokens)
        if group:
            yield group

    def embed(self, texts: Sequence[list[int]]) -> npt.NDArray[np.float32]:
        """One group's vectors, float32 [n, d], of any length. Runs on the owner thread.

        Raises:
            OutOfMemory: there is not enough memory.
            InferenceError: the model failed.
        """
        longest = max(map(len, texts))
        # What is behind a text's end does not change what is before it: these models look back only.
        rows = mx.array([[*tokens, *[0] * (longest - len(tokens))] for tokens in texts])
        lengths = mx.array([len(tokens) for tokens in texts])
        with mapped():
            states = self._backbone(rows).astype(mx.float32)
            if self._pooling == "first":
                pooled = states[:, 0]
            elif self._pooling == "last":
                pooled = states[mx.arange(len(texts)), lengths - 1]
            else:
                inside = (mx.arange(longest)[None] < lengths[:, None])[..., None]
                pooled = mx.where(inside, states, 0).sum(axis=1) / lengths[:, None]
            return np.array(pooled, np.float32)


def find_backbone(model: Any, width: int | None) -> nn.Module | None:
    """The part of a model that makes a vector of each token; None where there is none that can be told.

    Args:
        model: of mlx-lm.
        width: how many numbers such a vector has, by the model's config.
    """
    for place in _PLACES:
        part = model
        for name in place:
            part = getattr(part, name, None)
        if not isinstance(part, nn.Module):
            continue
        try:
            made = part(mx.array([[0, 0]]))
            mx.eval(made)
        except Exception:  # whatever a model's code raises where it wants other arguments
            continue
        if isinstance(made, mx.array) and made.ndim == 3 and made.shape[-1] == width:
            return part
    return None


def pooling_of(folder: Path) -> Pooling:
    """How the model's makers turn its tokens' vectors into one; the mean where they do not say."""
    try:
        config = json.loads((folder / "1_Pooling" / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return "mean"
    if config.get("pooling_mode_lasttoken"):
        return "last"
    return "first" if config.get("pooling_mode_cls_token") else "mean"
