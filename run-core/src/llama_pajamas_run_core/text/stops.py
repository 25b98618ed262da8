"""Stop strings and other markers in a stream, across the borders of its pieces."""

from collections.abc import Sequence


class StopMatcher:
    """Passes text through until a stop string appears in it.

    The end of the text that could still become a stop string is held back, so no part of one is ever emitted.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """Take the next piece; return what can be shown by now. After a match, nothing more comes out."""
        if not self._stops:
            return text
        if self.matched is not None:
            return ""
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.matched = min(found, key=lambda hit: hit[0])
            shown, self._held = self._held[:at], ""
            return shown
        keep = max(overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """The text held back, once no more is to come."""
        shown, self._held = self._held, ""
        return shown


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of a text begin a marker that may go on in the next piece."""
    longest = min(len(marker) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if marker.startswith(text[-n:])), 0)
