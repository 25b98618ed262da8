"""How a request's tokens are chosen: its own options over the model's over llama.cpp's defaults."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from llama_pajamas_run_core.types.chat import GenerationOptions
from llama_pajamas_run_gguf.metadata import number

T = TypeVar("T")

#: llama.cpp's seed that means "a random one".
_RANDOM_SEED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """What applies where a request says nothing; llama.cpp's values, unless the model brings its own.

    Attributes:
        temperature: 0 is greedy.
        top_k: only the k likeliest tokens; 0 switches it off.
        top_p: nucleus sampling; 1 switches it off.
        min_p: least probability relative to the likeliest; 0 switches it off.
        repeat_penalty: 1 switches it off.
        repeat_window: how many of the last tokens the repeat penalty looks at.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_window: int = 64

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "SamplingDefaults":
        """From a model's ``general.sampling.*`` keys."""
        kinds = (
            ("temperature", "temp", float),
            ("top_k", "top_k", int),
            ("top_p", "top_p", float),
            ("min_p", "min_p", float),
            ("repeat_penalty", "penalty_repeat", float),
            ("repeat_window", "penalty_last_n", int),
        )
        found = {name: number(metadata, f"general.sampling.{key}", kind) for name, key, kind in kinds}
        return cls(**{name: value for name, value in found.items() if value is not None})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """Everything that decides which token comes next.

    Attributes:
        temperature: 0 is greedy.
        top_k: only the k likeliest tokens; 0 switches it off.
        top_p: nucleus sampling; 1 switches it off.
        min_p: least probability relative to the likeliest; 0 switches it off.
        repeat_penalty: divides the logits of recent tokens, of the prompt too; 1 switches it off.
        repeat_window: how many recent tokens.
        presence_penalty: subtracted once from the logits of tokens in the answer.
        frequency_penalty: subtracted for each time a token is in the answer.
        seed: of the random numbers.
        logit_bias: added to the logits of tokens.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    repeat_window: int
    presence_penalty: float
    frequency_penalty: float
    seed: int
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def resolve(cls, options: GenerationOptions, defaults: SamplingDefaults) -> "SamplingSettings":
        """A request's settings."""

        def pick(asked: T | None, default: T) -> T:
            return default if asked is None else asked

        seed = random.getrandbits(32) if options.seed is None else options.seed & 0xFFFFFFFF
        return cls(
            temperature=pick(options.temperature, defaults.temperature),
            top_k=pick(options.top_k, defaults.top_k),
            top_p=pick(options.top_p, defaults.top_p),
            min_p=pick(options.min_p, defaults.min_p),
            repeat_penalty=pick(options.repeat_penalty, defaults.repeat_penalty),
            repeat_window=defaults.repeat_window,
            presence_penalty=pick(options.presence_penalty, 0.0),
            frequency_penalty=pick(options.frequency_penalty, 0.0),
            seed=0 if seed == _RANDOM_SEED else seed,
            logit_bias=options.logit_bias,
        )
