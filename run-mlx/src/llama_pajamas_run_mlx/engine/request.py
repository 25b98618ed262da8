"""One request inside the engine."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.language.logprobs import logprob
from llama_pajamas_run_core.language.output import Output
from llama_pajamas_run_core.language.plan import AnswerPlan
from llama_pajamas_run_core.language.sampling import SamplingSettings
from llama_pajamas_run_core.types.chat import FinishReason, GenerationOptions, TokenLogprob, Usage
from llama_pajamas_run_mlx.engine.adapters import Adapter
from llama_pajamas_run_mlx.engine.sampling import Sampler, Steering, greedy
from llama_pajamas_run_mlx.tokenizer import Tokenizer

_arrivals = itertools.count()


class Request:
    """A request from its submission to its last token.

    Args:
        generation: where the answer goes.
        prompt: its tokens, at least one.
        plan: how the answer is read and what it is held to.
        settings: how tokens are chosen.
        options: what the request asked for.
        room: tokens of the context that the prompt leaves.
        tokenizer: of the model.
        adapter: the LoRA adapter it is answered with, or None.
    """

    def __init__(
        self,
        generation: Generation,
        prompt: Sequence[int],
        plan: AnswerPlan,
        settings: SamplingSettings,
        options: GenerationOptions,
        *,
        room: int,
        tokenizer: Tokenizer,
        adapter: Adapter | None = None,
    ) -> None:
        self.adapter = adapter
        self.generation = generation
        self.prompt = list(prompt)
        self.max_tokens = room if options.max_tokens is None else min(room, options.max_tokens)
        self.order = (-options.priority, next(_arrivals))
        self.cached = 0
        self._tokenizer = tokenizer
        self._plan = plan
        self._settings = settings
        self._output = Output(generation, tokenizer, plan)
        self._alternatives = options.logprobs
        self._answered = 0
        self._steering: Steering | None = None

    def open(self) -> tuple[Any, list[Any]]:
        """How its tokens are chosen: a sampler and the processors before it. On the owner thread, once.

        Raises:
            InferenceError: the grammar cannot be followed.
        """
        settings, plan = self._settings, self._plan
        report = self._alternatives is not None
        if report or settings.changes_logits or plan.grammar is not None or plan.trigger is not None:
            self._steering = Steering(settings, plan, self._tokenizer, self.prompt, report=report)
        return (
            greedy if settings.temperature <= 0 else Sampler(settings),
            [] if self._steering is None else [self._steering],
        )

    @property
    def error(self) -> Exception | None:
        """What went wrong in a step, for this request alone."""
        return None if self._steering is None else self._steering.error

    def add(self, token: int) -> None:
        """Take a chosen token into the answer."""
        report: tuple[TokenLogprob, ...] = ()
        if self._alternatives is not None and self._steering is not None:
            logits = np.array(self._steering.logits.popleft(), np.float32)[0]
            report = (logprob(logits, token, self._alternatives, self._tokenizer),)
        self._answered += 1
        self._output.add(token, report)

    def finish(self, reason: FinishReason) -> None:
        """End the answer well."""
        reason = self._output.end(reason)
        usage = Usage(
            prompt_tokens=len(self.prompt),
            completion_tokens=self._answered,
            cached_tokens=self.cached,
            reasoning_tokens=self._output.reasoning_tokens,
        )
        self.generation.finish(reason, usage)
