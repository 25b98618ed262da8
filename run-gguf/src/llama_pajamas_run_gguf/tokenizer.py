"""Text to tokens and back, with the model's own vocabulary."""

import ctypes
import threading
from collections.abc import Sequence
from typing import Any

import llama_cpp

from llama_pajamas_run_core.errors import BadInput, TooLarge
from llama_pajamas_run_gguf import _quick

#: No vocabulary in use has longer tokens; a longer text cannot fit the context, and need not be tokenized to know it.
_MAX_BYTES_PER_TOKEN = 256


class Tokenizer:
    """A model's vocabulary, for any thread; after :meth:`close` it raises instead of touching freed memory.

    Args:
        vocab: the loaded model's vocabulary.
        max_tokens: more than any text may have, to refuse absurd ones before work is spent on them.
    """

    def __init__(self, vocab: Any, max_tokens: int) -> None:
        self._vocab: Any = vocab
        self._lock = threading.Lock()
        self._pieces: dict[int, bytes] = {}
        self._special: dict[int, bytes] = {}
        self.max_bytes = max_tokens * _MAX_BYTES_PER_TOKEN
        self.size: int = llama_cpp.llama_vocab_n_tokens(vocab)
        self.bos: int = llama_cpp.llama_vocab_bos(vocab)
        self.eos: int = llama_cpp.llama_vocab_eos(vocab)
        self.ends = frozenset(token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(vocab, token))
        self.adds_bos: bool = llama_cpp.llama_vocab_get_add_bos(vocab)

    def close(self) -> None:
        """Let go of the vocabulary, before the model is freed."""
        with self._lock:
            self._vocab = None

    def encode(self, text: str, *, special: bool = True, add_special: bool = True) -> list[int]:
        """Tokenize.

        Args:
            text: the text.
            special: whether markers like ``<|im_end|>`` in the text become the tokens they name.
            add_special: whether the tokens that the model wants at the beginning or end are added.

        Raises:
            TooLarge: the text is longer than any context holds.
            BadInput: the model was closed.
        """
        data = text.encode("utf-8", "replace")
        if len(data) > self.max_bytes:
            raise TooLarge(
                f"The text has {len(data):,} bytes; this model's context holds at most {self.max_bytes:,}.",
                hint="Shorten the input.",
                param="messages",
            )
        room = len(data) + 8
        with self._lock:
            if self._vocab is None:
                raise BadInput("The model was closed.")
            while True:
                tokens = (llama_cpp.llama_token * room)()
                count = llama_cpp.llama_tokenize(self._vocab, data, len(data), tokens, room, add_special, special)
                if count >= 0:
                    return list(tokens[:count])
                room = -count

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token; control tokens have none unless ``special``."""
        known = self._special if special else self._pieces
        piece = known.get(token)
        if piece is None:
            piece = known[token] = self._read(token, special)
        return piece

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens included."""
        return b"".join(self.piece(token, special=True) for token in tokens).decode("utf-8", "replace")

    def named(self, text: str) -> int | None:
        """The one token that a marker like ``<tool_call>`` is, or None where it is made of several."""
        tokens = self.encode(text, add_special=False)
        return tokens[0] if len(tokens) == 1 else None

    def check(self, tokens: Sequence[int]) -> None:
        """See that token ids exist.

        Raises:
            BadInput: one does not.
        """
        for token in tokens:
            if not 0 <= token < self.size:
                raise BadInput(f"Token {token} is not in the vocabulary of {self.size} tokens.", param="prompt")

    def _read(self, token: int, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            with self._lock:
                if self._vocab is None:
                    raise BadInput("The model was closed.")
                length = _quick.token_to_piece(self._vocab, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length
