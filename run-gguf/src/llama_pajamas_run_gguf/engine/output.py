"""From the bytes of an answer's tokens to the deltas of its generation."""

import codecs

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.types.chat import FinishReason, TokenLogprob


class Output:
    """Plain text: whole code points, as they are completed.

    Args:
        generation: where the text goes.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.reasoning_tokens = 0

    def add(self, piece: bytes, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """Take the bytes of the next token."""
        self._show(self._decoder.decode(piece), logprobs)

    def end(self, reason: FinishReason) -> FinishReason:
        """Take note that no more is to come; returns the finish reason to report."""
        self._show(self._decoder.decode(b"", final=True), ())
        return reason

    def _show(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        if text or logprobs:
            self._generation.push(text, logprobs=logprobs)
