"""How likely a chosen token was."""

import math

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.language.tokens import Tokenizer
from llama_pajamas_run_core.types.chat import TokenLogprob


def logprob(logits: npt.NDArray[np.float32], token: int, alternatives: int, tokenizer: Tokenizer) -> TokenLogprob:
    """How likely a token was by the model itself, before any sampling settings.

    Args:
        logits: of its place, float32 [vocabulary].
        token: the chosen one.
        alternatives: how many of the likeliest to report beside it.
        tokenizer: of the model.
    """
    peak = logits.max()
    total = float(peak) + math.log(float(np.exp(logits - peak, dtype=np.float64).sum()))

    def report(number: int, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        data = tokenizer.piece(number, special=True)
        return TokenLogprob(data.decode("utf-8", "replace"), data, float(logits[number]) - total, top)

    if not alternatives:
        return report(token)
    count = min(alternatives, len(logits))
    likeliest = np.argpartition(-logits, count - 1)[:count]
    ordered = likeliest[np.argsort(-logits[likeliest], kind="stable")]
    return report(token, tuple(report(int(number)) for number in ordered))
