"""Text to tokens and back, with the model's own vocabulary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer

from llama_pajamas_run_core.errors import BadInput, LoadError, TooLarge

#: No vocabulary in use has longer tokens; a longer text cannot fit the context, and need not be tokenized to know it.
_MAX_BYTES_PER_TOKEN = 256


class Tokenizer:
    """A model's vocabulary, for any thread.

    Args:
        wrapped: mlx-lm's tokenizer.
        path: the model's folder, for error messages.
        size: how many tokens the model gives logits for.
        max_tokens: more than any text may have, to refuse absurd ones before work is spent on them.

    Attributes:
        size: how many tokens the model gives logits for.
        ends: the tokens that end an answer.
        guide: llguidance's view of the vocabulary.

    Raises:
        LoadError: the vocabulary cannot be read.
    """

    def __init__(self, wrapped: Any, path: Path, *, size: int, max_tokens: int) -> None:
        hugging_face = wrapped._tokenizer
        self._backend: Any = getattr(hugging_face, "backend_tokenizer", None)
        if self._backend is None:
            raise LoadError(f"{path} has a tokenizer without a fast version (tokenizer.json).")
        self._backend.no_truncation()
        self._backend.no_padding()
        self.size = size
        self.ends = frozenset(int(token) for token in wrapped.eos_token_ids)
        self.max_bytes = max_tokens * _MAX_BYTES_PER_TOKEN
        added = hugging_face.added_tokens_decoder
        self._control = frozenset(token for token, entry in added.items() if entry.special) | self.ends
        self._named = {entry.content: token for token, entry in added.items()}
        vocabulary = self._backend.get_vocab_size(with_added_tokens=True)
        try:
            self.guide = LLTokenizer(
                self._backend.to_str(), n_vocab=max(size, vocabulary), eos_token=sorted(self.ends) or None
            )
        except Exception as error:  # llguidance raises what its Rust code makes
            raise LoadError(f"{path} has a tokenizer that llguidance does not read: {error}") from error
        self._pieces: dict[int, bytes] = {}

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """Tokenize; markers like ``<|im_end|>`` become the tokens they name.

        Args:
            text: the text.
            add_special: whether the tokens that the model wants at the beginning or end are added.

        Raises:
            TooLarge: the text is longer than any context holds.
        """
        data = text.encode("utf-8", "replace")
        if len(data) > self.max_bytes:
            raise TooLarge(
                f"The text has {len(data):,} bytes; this model's context holds at most {self.max_bytes:,}.",
                hint="Shorten the input.",
                param="messages",
            )
        encoded = self._backend.encode(data.decode("utf-8"), add_special_tokens=add_special)
        return list(encoded.ids)

    def piece(self, token: int, *, special: bool) -> bytes:
        """A token's bytes; a control token has none unless ``special``."""
        if token in self._control and not special:
            return b""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = bytes(self.guide.decode_bytes([token]))
        return known

    def named(self, text: str) -> int | None:
        """The token that a marker like ``<tool_call>`` is, or None where it is made of several."""
        return self._named.get(text)

    def check(self, tokens: Sequence[int]) -> None:
        """See that token ids exist.

        Raises:
            BadInput: one does not.
        """
        for token in tokens:
            if not 0 <= token < self.size:
                raise BadInput(f"Token {token} is not in the vocabulary of {self.size} tokens.", param="prompt")

    def allowed(self, matcher: LLMatcher) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, bool [size]."""
        bias = np.frombuffer(matcher.compute_logit_bias(), np.uint8)
        mask = np.zeros(self.size, np.bool_)
        count = min(self.size, len(bias))
        mask[:count] = bias[:count] != 0
        return mask
