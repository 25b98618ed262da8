"""What is asked of a runtime's tokenizer here."""

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """A model's vocabulary."""

    def encode(self, text: str) -> list[int]:
        """A text's tokens, with those that the model wants at its beginning and end."""

    def check(self, tokens: Sequence[int]) -> None:
        """See that token ids exist; raises BadInput where one does not."""

    def piece(self, token: int, *, special: bool) -> bytes:
        """A token's bytes; a control token has none unless ``special``."""

    def named(self, text: str) -> int | None:
        """The token that a marker like ``<tool_call>`` is, or None where it is made of several."""
