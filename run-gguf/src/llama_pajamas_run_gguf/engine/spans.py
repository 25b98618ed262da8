"""Where pictures and sounds are among a prompt's tokens."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A picture or sound within a prompt.

    Attributes:
        start: where its tokens begin.
        tokens: how many cells of the cache it takes.
        positions: by how many positions it moves what follows; fewer than tokens where these have two dimensions.
        chunk: what computes it.
    """

    start: int
    tokens: int
    positions: int
    chunk: Any

    @property
    def end(self) -> int:
        """Where the tokens behind it begin."""
        return self.start + self.tokens


class Senses(Protocol):
    """Computes pictures and sounds."""

    def compute(self, span: Span, context: Any, sequence: int, position: int) -> None:
        """Put one into a sequence's cache, from a position on. Raises InferenceError where that fails."""
