"""One request inside the engine."""

import itertools
from array import array
from collections.abc import Sequence as Tokens
from typing import Any

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.language.calls import Trigger
from llama_pajamas_run_core.language.output import Output
from llama_pajamas_run_core.language.sampling import SamplingSettings
from llama_pajamas_run_core.types.chat import FinishReason, TokenLogprob, Usage
from llama_pajamas_run_gguf.engine.adapters import Adapter
from llama_pajamas_run_gguf.engine.cache import Slot
from llama_pajamas_run_gguf.engine.sampling import Sampler
from llama_pajamas_run_gguf.engine.spans import Span
from llama_pajamas_run_gguf.tokenizer import Tokenizer

_arrivals = itertools.count()


class Sequence:
    """A request from its submission to its last token.

    What is known is in :attr:`tokens`, what is computed in its slot of the cache; a step computes some of the
    difference, and one that closes it chooses the next token. So a prompt, a decoded token and a sequence that lost its
    cache to others are all the same to the engine.

    Args:
        generation: where the answer goes.
        prompt: its tokens, at least one.
        output: makes text from the answer's tokens.
        settings: how tokens are chosen.
        limit: the most tokens of prompt and answer together.
        max_tokens: the most tokens of the answer, or None.
        priority: higher ones come first.
        adapter: the LoRA adapter it is computed with, or None.
        grammar: GBNF that the answer follows from its first token, or None.
        trigger: begins a grammar later, or None.
        logprobs: alternatives to report for each token, or None for no report.
        spans: pictures and sounds in the prompt.
    """

    def __init__(
        self,
        generation: Generation,
        prompt: Tokens[int],
        output: Output,
        settings: SamplingSettings,
        *,
        limit: int,
        max_tokens: int | None = None,
        priority: int = 0,
        adapter: Adapter | None = None,
        grammar: str | None = None,
        trigger: Trigger | None = None,
        logprobs: int | None = None,
        spans: Tokens[Span] = (),
    ) -> None:
        self.generation = generation
        self.tokens = array("i", prompt)
        self.prompt_length = len(prompt)
        self.output = output
        self.settings = settings
        self.end = limit if max_tokens is None else min(limit, len(prompt) + max_tokens)
        self.priority = priority
        self.adapter = adapter
        self.grammar, self.trigger = grammar, trigger
        self.logprobs = logprobs
        self.spans = tuple(spans)
        self.arrival = next(_arrivals)
        self.slot: Slot | None = None
        self.sampler: Sampler | None = None
        self.cached: int | None = None
        self.unread = len(prompt)  # tokens that were to be read when it was last given a lane
        self.aside = True  # whether a long prompt of it may be read aside
        self.luck = 0.6  # how often guesses of its next token are right
        self.steps_without_guess = 0
        self.expected: tuple[int, int] | None = None  # a guess that was not used: its place, its first token

    @property
    def order(self) -> tuple[int, int]:
        """Who comes first: the higher priority, then the earlier arrival."""
        return (-self.priority, self.arrival)

    @property
    def ahead(self) -> int:
        """Known tokens that are not computed yet: 1 while answering, more while reading a prompt."""
        computed = 0 if self.slot is None else len(self.slot.tokens)
        return len(self.tokens) - computed

    @property
    def readable(self) -> int:
        """Tokens that can be computed next in a batch: up to the next picture or sound."""
        return self.ahead if not self.spans else self._up_to_span()

    @property
    def next_span(self) -> Span | None:
        """The picture or sound that has to be computed next, if it is one's turn."""
        computed = 0 if self.slot is None else len(self.slot.tokens)
        return next((span for span in self.spans if span.start == computed), None)

    @property
    def answered(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def answering(self) -> bool:
        """Whether it only needs its last token computed to go on with its answer."""
        return self.ahead == 1 and self.answered > 0

    def _up_to_span(self) -> int:
        computed = 0 if self.slot is None else len(self.slot.tokens)
        following = [span.start for span in self.spans if span.start >= computed]
        return min([*following, len(self.tokens)]) - computed

    def open(self, tokenizer: Tokenizer, vocab: Any) -> Sampler:
        """Its sampler, made when it is first wanted.

        Raises:
            BadInput: llama.cpp cannot read the grammar.
        """
        if self.sampler is None:
            words = [token for token in self.tokens if token >= 0]
            self.sampler = Sampler(self.settings, tokenizer=tokenizer, prompt=words, context=self.end, vocab=vocab)
            self.sampler.constrain(self.grammar)
        return self.sampler

    def add(self, token: int, logprobs: tuple[TokenLogprob, ...]) -> None:
        """Take a chosen token into the answer."""
        self.tokens.append(token)
        answer = self.output.add(token, logprobs)
        constraint = None if self.trigger is None else self.trigger.push(answer)
        if constraint is not None and self.sampler is not None:
            self.sampler.constrain(*constraint)

    def finish(self, reason: FinishReason) -> None:
        """End the answer well."""
        self.generation.finish(self.output.end(reason), self.usage)

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(
            prompt_tokens=self.prompt_length,
            completion_tokens=self.answered,
            cached_tokens=self.cached or 0,
            reasoning_tokens=self.output.reasoning_tokens,
        )

    def close(self) -> None:
        """Free its samplers."""
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None
