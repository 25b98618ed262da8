"""From an answer's tokens to the deltas of its generation."""

import codecs

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.language.plan import AnswerPlan
from llama_pajamas_run_core.language.tokens import Tokenizer
from llama_pajamas_run_core.types.chat import FinishReason, TokenLogprob, ToolCallDelta


class TokenText:
    """Tokens as text: whole code points, as they are completed.

    Args:
        tokenizer: of the model.
        markers: control tokens, as text, that are shown; all others have none.
    """

    def __init__(self, tokenizer: Tokenizer, markers: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._shown = {tokenizer.named(marker) for marker in markers}
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """What a token completes."""
        return self._decoder.decode(self._tokenizer.piece(token, special=token in self._shown))

    def end(self) -> str:
        """What stands for a code point that was never completed."""
        return self._decoder.decode(b"", final=True)


class Output:
    """An answer's text, split into reasoning, text and tool calls.

    Args:
        generation: where the text goes.
        tokenizer: of the model.
        plan: how the answer is read.

    Attributes:
        reasoning_tokens: how many tokens of reasoning there were.
    """

    def __init__(self, generation: Generation, tokenizer: Tokenizer, plan: AnswerPlan) -> None:
        self._generation = generation
        self._plan = plan
        self._text = TokenText(tokenizer, plan.markers)
        self.reasoning_tokens = 0

    def add(self, token: int, logprobs: tuple[TokenLogprob, ...] = ()) -> str:
        """Take the next token.

        Returns:
            what it adds to the answer behind the reasoning, tool calls included.
        """
        reasoning, answer = self._split(self._text.add(token))
        if self._plan.reasoning is not None and not answer and (reasoning or self.reasoning_tokens):
            self.reasoning_tokens += 1
        self._show(reasoning, *self._calls(answer), logprobs)
        return answer

    def end(self, reason: FinishReason) -> FinishReason:
        """Take note that no more is to come.

        Returns:
            the finish reason to report.
        """
        reasoning, answer = self._split(self._text.end())
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
