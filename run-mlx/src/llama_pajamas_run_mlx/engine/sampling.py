"""Choosing a token from logits: what mlx-lm's batch generator calls for every sequence of a step."""

import logging
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.language.output import TokenText
from llama_pajamas_run_core.language.plan import AnswerPlan
from llama_pajamas_run_core.language.sampling import SamplingSettings
from llama_pajamas_run_mlx._session import number
from llama_pajamas_run_mlx.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


def defaults_of(config: Mapping[str, Any]) -> SamplingSettings:
    """What a model's ``generation_config.json`` wants; llama.cpp's values where it says nothing."""
    found: dict[str, Any] = {}
    kinds = {"temperature": float, "top_k": int, "top_p": float, "min_p": float, "repetition_penalty": float}
    for name, kind in kinds.items():
        value = config.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            found[name] = kind(value)
    if penalty := found.pop("repetition_penalty", 0.0):  # nothing can be divided by 0
        found["repeat_penalty"] = penalty
    if config.get("do_sample") is False:
        found["temperature"] = 0.0
    return SamplingSettings(**found)


def greedy(logprobs: mx.array) -> mx.array:
    """The likeliest tokens, int [b]: shared by all greedy sequences, so that a step asks once for all of them."""
    return mx.argmax(logprobs, axis=-1)


class Sampler:
    """Draws one sequence's tokens, in llama.cpp's order: top-k, top-p, min-p, temperature.

    Args:
        settings: of the request.
    """

    def __init__(self, settings: SamplingSettings) -> None:
        self._settings = settings
        self._key = mx.random.key(settings.seed)

    def __call__(self, logprobs: mx.array) -> mx.array:
        """From log probabilities [1, v] to a token, int [1]."""
        settings = self._settings
        if 0 < settings.top_k < logprobs.shape[-1]:
            logprobs = apply_top_k(logprobs, settings.top_k)
        if settings.top_p < 1:
            # 0 would leave nothing; llama.cpp too keeps the likeliest.
            logprobs = apply_top_p(logprobs, max(settings.top_p, 1e-6))
        if settings.min_p > 0:
            logprobs = apply_min_p(logprobs, settings.min_p)
        self._key, key = mx.random.split(self._key)
        return mx.random.categorical(logprobs * (1 / settings.temperature), key=key)


class Steering:
    """One sequence's bias, penalties and grammar, in llama.cpp's order, and the logits before all of these.

    An error in here must not end the step of the other sequences: it is kept in :attr:`error` for the engine.

    Args:
        settings: of the request.
        plan: what the answer is held to.
        tokenizer: of the model.
        prompt: its tokens, which the repeat penalty counts too.
        report: whether the logits are kept for a report.
    """

    def __init__(
        self,
        settings: SamplingSettings,
        plan: AnswerPlan,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        *,
        report: bool,
    ) -> None:
        self.error: Exception | None = None
        self.logits: deque[mx.array] = deque()
        self._settings = settings
        self._tokenizer = tokenizer
        self._trigger = plan.trigger
        self._text = TokenText(tokenizer, plan.markers)
        self._reasoning = deepcopy(plan.reasoning)  # the answer's own lies a token behind
        self._matcher = None if plan.grammar is None else self._match(plan.grammar)
        self._recent = deque(prompt, maxlen=max(settings.repeat_window, 1))
        self._counts: Counter[int] = Counter()
        self._report = report
        self._began = False

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Logits [1, v] of the next token, given all tokens so far [n]."""
        if self._report:
            self.logits.append(logits)
        if self.error is not None:
            return logits
        try:
            if self._began:
                self._take(number(tokens[-1]))
            self._began = True
            return self._constrain(self._penalize(self._bias(logits)))
        except Exception as error:
            _log.exception("a step of one sequence failed")
            self.error = error
            return logits

    def _take(self, token: int) -> None:
        self._recent.append(token)
        self._counts[token] += 1
        if self._matcher is not None:
            if not self._matcher.consume_token(token):
                raise InferenceError(f"The required format could not be kept: {self._matcher.get_error()}")
        elif self._trigger is not None:
            text = self._text.add(token)
            if self._reasoning is not None:  # in which no calls are made
                _, text = self._reasoning.push(text)
            if (found := self._trigger.push(text)) is not None:
                self._begin(*found)

    def _begin(self, grammar: str, begun: str) -> None:
        """Follow a grammar from now on; where what is written of it already does not fit, there is none to follow."""
        matcher = self._match(grammar)
        tokens = self._tokenizer.guide.tokenize_str(begun) if begun else []
        if matcher.try_consume_tokens(tokens) == len(tokens):
            self._matcher = matcher

    def _match(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer.guide, grammar)
        if matcher.is_error():
            raise InferenceError(f"The required format could not be followed: {matcher.get_error()}")
        return matcher

    def _bias(self, logits: mx.array) -> mx.array:
        if self._settings.logit_bias:
            places = mx.array(list(self._settings.logit_bias))
            logits = logits.at[:, places].add(mx.array(list(self._settings.logit_bias.values())))
        return logits

    def _penalize(self, logits: mx.array) -> mx.array:
        settings = self._settings
        if settings.repeat_penalty != 1 and settings.repeat_window and self._recent:
            places = mx.array(sorted(set(self._recent)))
            found = logits[:, places]
            scaled = mx.where(found > 0, found / settings.repeat_penalty, found * settings.repeat_penalty)
            # Not "logits[:, places] =", which would change those that are kept for the report.
            logits = mx.put_along_axis(logits, places[None], scaled, axis=-1)
        if (settings.presence_penalty or settings.frequency_penalty) and self._counts:
            places = mx.array(list(self._counts))
            counts = mx.array([float(count) for count in self._counts.values()])
            logits = logits.at[:, places].subtract(settings.presence_penalty + settings.frequency_penalty * counts)
        return logits

    def _constrain(self, logits: mx.array) -> mx.array:
        if self._matcher is None:
            return logits
        if self._matcher.is_stopped() and not self._matcher.is_error():
            allowed = np.zeros(self._tokenizer.size, np.bool_)
            allowed[list(self._tokenizer.ends)] = True
        else:
            allowed = self._tokenizer.allowed(self._matcher)
        if not allowed.any():
            raise InferenceError("No token of this model continues the required format.")
        return mx.where(mx.array(allowed)[None], logits, -math.inf)
