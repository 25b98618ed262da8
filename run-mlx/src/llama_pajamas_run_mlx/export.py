"""A checkpoint as a smaller MLX model: ``llama-pajamas export mlx SOURCE TARGET --bits 4``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.utils import quantize_model, save

from llama_pajamas_run_core.artifacts.formats import size_of
from llama_pajamas_run_core.artifacts.whole import check_target, made_whole
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_mlx._session import SharedThread, load_language_model, mapped, number, offline

#: Bits for each weight; of the mixed ones the most sensitive layers have the second number.
BITS: Final = ("2", "3", "4", "6", "8", "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")
#: Weights that share a scale.
GROUPS: Final = (32, 64, 128)
#: The most places that the quality is measured at: each holds a probability for every token of the vocabulary.
MAX_PLACES: Final = 1000
#: What the quality is measured on where nothing else is given.
TEXTS: Final = (
    "Turn off the lamp in the living room, please, and set an alarm for half past seven tomorrow morning.",
    "The llama is a domesticated South American camelid, used as a pack animal since before the time of Columbus.",
    "If a train leaves at nine and travels two hundred miles at fifty miles an hour, it arrives at one o'clock.",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true, "brightness": 40}}',
    "She opened the window, looked at the grey sky for a while, and decided to stay at home with a book.",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What an export changed.

    Attributes:
        bytes_before: of the source's files.
        bytes_after: of the export's files.
        places: tokens that the quality was measured at.
        agreement: share of places where the likeliest next token is still the same.
        divergence: mean Kullback-Leibler divergence of the next token's distribution, in nats.
    """

    bytes_before: int
    bytes_after: int
    places: int
    agreement: float
    divergence: float

    def __str__(self) -> str:
        share = self.bytes_after / self.bytes_before
        return (
            f"size {self.bytes_before / 1e6:.1f} -> {self.bytes_after / 1e6:.1f} MB ({share:.0%}); "
            f"likeliest token the same at {self.agreement:.1%} of {self.places} places; "
            f"divergence {self.divergence:.4f} nats"
        )


def export(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    bits: str | int = 4,
    group_size: int = 64,
    texts: Sequence[str] = TEXTS,
    overwrite: bool = False,
) -> Report:
    """Quantize a model.

    Args:
        source: a folder with config.json, safetensors and tokenizer.json, not quantized.
        target: the folder to make.
        bits: for each weight, one of :data:`BITS`.
        group_size: weights that share a scale, one of :data:`GROUPS`; layers whose width it does not divide stay as
            they are.
        texts: what the quality is measured on, as far as the first :data:`MAX_PLACES` tokens.
        overwrite: whether a folder that is there already may be replaced.

    Returns:
        the change of size and quality.

    Raises:
        BadInput: a value is none of those listed, the target exists or holds the source, the source is quantized
            already, or no text has two tokens.
        LoadError: the source cannot be loaded.
        OutOfMemory: there is not enough memory.
    """
    source, target, kind = Path(source).expanduser(), Path(target).expanduser(), str(bits)
    if kind not in BITS:
        raise BadInput(f"bits is one of {', '.join(BITS)}, not {kind!r}.", param="bits")
    if group_size not in GROUPS:
        raise BadInput(f"group_size is one of {', '.join(map(str, GROUPS))}, not {group_size}.", param="group_size")
    check_target(target, source=source, overwrite=overwrite)
    return SharedThread().run(lambda: _export(source, target, kind, group_size, texts, overwrite))


def _export(source: Path, target: Path, kind: str, group_size: int, texts: Sequence[str], overwrite: bool) -> Report:
    model, tokenizer, config = load_language_model(source, dtype=None, adapter=None)
    if "quantization" in config or "quantization_config" in config:
        raise BadInput(f"{source} is quantized already.", hint="Export from the original checkpoint.", param="source")
    encoded = _encoded(tokenizer, texts)
    with mapped():
        before = [_logprobs(model, tokens) for tokens in encoded]
        predicate = None if kind.isdigit() else mixed_quant_predicate_builder(kind, model, group_size)
        width = int(kind) if kind.isdigit() else int(kind.split("_")[1])
        model, config = quantize_model(model, config, group_size, width, quant_predicate=predicate)
        after = [_logprobs(model, tokens) for tokens in encoded]
        with made_whole(target, overwrite=overwrite) as part, offline():
            part.mkdir()
            save(part, source, model, tokenizer, config)
    pairs = list(zip(before, after, strict=True))
    same = sum(number((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
    apart = sum(float((mx.exp(a) * (a - b)).sum()) for a, b in pairs)
    places = sum(len(one) for one in before)
    return Report(size_of(source), size_of(target), places, same / places, max(0.0, apart / places))


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of the texts that have two at least, as far as they are measured."""
    made: list[list[int]] = []
    room = MAX_PLACES
    for text in texts:
        tokens = tokenizer.encode(text)[:room]
        if len(tokens) > 1:
            made.append(tokens)
            room -= len(tokens)
    if not made:
        raise BadInput("There is no text of two tokens to measure the quality on.", param="texts")
    return made


def _logprobs(model: nn.Module, tokens: Sequence[int]) -> mx.array:
    """Log probabilities of the next token at each place of a text, float32 [n, v]."""
    logits: mx.array = model(mx.array([tokens]))[0].astype(mx.float32)
    made = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    mx.eval(made)
    return made
