"""The ranges of generation options, checked once for every runtime and every way in."""

import math

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.chat import GenerationOptions

#: The most alternatives reported for a token, as in OpenAI's API.
MAX_TOP_LOGPROBS = 20

_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "max_tokens": (1, math.inf),
    "top_k": (0, math.inf),
    "logprobs": (0, MAX_TOP_LOGPROBS),
}


def check_options(options: GenerationOptions) -> None:
    """See that every option is within its range.

    Raises:
        BadInput: one is not; the message names it with its range.
    """
    for name, (low, high) in _RANGES.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:  # also catches NaN
            bound = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise BadInput(f"{name} must be {bound}, not {value}.", param=name)
    if options.repeat_penalty is not None and not 0 < options.repeat_penalty <= 10:  # logits are divided by it
        raise BadInput(
            f"repeat_penalty must be more than 0 and at most 10, not {options.repeat_penalty}; 1 switches it off.",
            param="repeat_penalty",
        )
    for token, bias in options.logit_bias.items():
        if not -100 <= bias <= 100:
            raise BadInput(f"logit_bias must be from -100 to 100, not {bias}.", param=f"logit_bias.{token}")
