"""How a request's tokens are chosen: its own options over the model's over llama.cpp's defaults."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from llama_pajamas_run_core.types.chat import GenerationOptions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """Everything that decides which token comes next. The defaults apply where neither request nor model say anything.

    Attributes:
        temperature: 0 is greedy.
        top_k: only the k likeliest tokens; 0 switches it off.
        top_p: nucleus sampling; 1 switches it off.
        min_p: least probability relative to the likeliest; 0 switches it off.
        repeat_penalty: divides the logits of recent tokens, of the prompt too; 1 switches it off.
        repeat_window: how many recent tokens; -1 for all.
        presence_penalty: subtracted once from the logits of tokens in the answer.
        frequency_penalty: subtracted for each time a token is in the answer.
        seed: of the random numbers, 64 bits.
        logit_bias: added to the logits of tokens.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_window: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def resolve(self, options: GenerationOptions) -> "SamplingSettings":
        """A request's settings over these, which are the model's."""

        def pick(asked: T | None, default: T) -> T:
            return default if asked is None else asked

        return SamplingSettings(
            temperature=pick(options.temperature, self.temperature),
            top_k=pick(options.top_k, self.top_k),
            top_p=pick(options.top_p, self.top_p),
            min_p=pick(options.min_p, self.min_p),
            repeat_penalty=pick(options.repeat_penalty, self.repeat_penalty),
            repeat_window=self.repeat_window,
            presence_penalty=pick(options.presence_penalty, self.presence_penalty),
            frequency_penalty=pick(options.frequency_penalty, self.frequency_penalty),
            seed=random.getrandbits(32) if options.seed is None else options.seed & 0xFFFFFFFFFFFFFFFF,
            logit_bias=options.logit_bias,
        )

    @property
    def changes_logits(self) -> bool:
        """Whether logits are changed before a token is drawn."""
        return bool(self.logit_bias or self.repeat_penalty != 1 or self.presence_penalty or self.frequency_penalty)
