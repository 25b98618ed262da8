"""From an answer's tokens to the deltas of its generation."""

import codecs

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.types.chat import FinishReason, TokenLogprob, ToolCallDelta
from llama_pajamas_run_mlx.chat.plan import AnswerPlan
from llama_pajamas_run_mlx.tokenizer import Tokenizer


class Output:
    """Whole code points as they are completed, split into reasoning, text and tool calls.

    Args:
        generation: where the text goes.
        tokenizer: of the model.
        plan: how the answer is read.

    Attributes:
        reasoning_tokens: how many tokens of reasoning there were.
    """

    def __init__(self, generation: Generation, tokenizer: Tokenizer, plan: AnswerPlan) -> None:
        self._generation = generation
        self._tokenizer = tokenizer
        self._plan = plan
        self._visible = visible(tokenizer, plan)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.reasoning_tokens = 0

    def add(self, token: int, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """Take the next token."""
        text = self._decoder.decode(self._tokenizer.piece(token, special=token in self._visible))
        reasoning, answer = self._split(text)
        if self._plan.reasoning is not None and not answer and (reasoning or self.reasoning_tokens):
            self.reasoning_tokens += 1
        self._show(reasoning, *self._calls(answer), logprobs)

    def end(self, reason: FinishReason) -> FinishReason:
        """Take note that no more is to come.

        Returns:
            the finish reason to report.
        """
        reasoning, answer = self._split(self._decoder.decode(b"", final=True))
        if self._plan.reasoning is not None:
            more_reasoning, more_answer = self._plan.reasoning.flush()
            reasoning, answer = reasoning + more_reasoning, answer + more_answer
        text, calls = self._calls(answer)
        if self._plan.calls is not None:
            more_text, more_calls = self._plan.calls.flush()
            text, calls = text + more_text, calls + more_calls
        self._show(reasoning, text, calls, ())
        if reason == "stop" and self._plan.calls is not None and self._plan.calls.called:
            return "tool_calls"
        return reason

    def _split(self, text: str) -> tuple[str, str]:
        return ("", text) if self._plan.reasoning is None else self._plan.reasoning.push(text)

    def _calls(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        return (text, ()) if self._plan.calls is None else self._plan.calls.push(text)

    def _show(
        self, reasoning: str, text: str, calls: tuple[ToolCallDelta, ...], logprobs: tuple[TokenLogprob, ...]
    ) -> None:
        if reasoning or text or calls or logprobs:
            self._generation.push(text, reasoning=reasoning, tool_calls=calls, logprobs=logprobs)


def visible(tokenizer: Tokenizer, plan: AnswerPlan) -> frozenset[int]:
    """The control tokens whose text matters to whoever reads the answer."""
    named = (tokenizer.named(marker) for marker in plan.markers)
    return frozenset(token for token in named if token is not None)
