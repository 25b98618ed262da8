"""Quantized keys and values: a batch of them behaves as mlx-lm's own batch cache does, and answers stay the same."""

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed", exc_type=ImportError)

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import BatchKVCache, KVCache, RotatingKVCache

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_mlx.engine.quantized_cache import BatchCache, SequenceCache, cache_maker
from llama_pajamas_run_mlx.llm import MLXLLMBackend

HEADS, WIDTH = 2, 32


def exact(packed, bits: int) -> np.ndarray:
    return np.array(mx.dequantize(*packed, group_size=32, bits=bits))


def rounded(array: mx.array, bits: int) -> np.ndarray:
    """What is left of numbers that were quantized once."""
    return exact(mx.quantize(array, group_size=32, bits=bits), bits)


class Both:
    """The same steps on a quantized cache and on mlx-lm's own."""

    def __init__(self, counts: list[int], bits: int, seed: int) -> None:
        self.bits, self.random = bits, mx.random.key(seed)
        ours = [SequenceCache(group_size=32, bits=bits) for _ in counts]
        theirs = [KVCache() for _ in counts]
        for mine, other, count in zip(ours, theirs, counts, strict=True):
            if count:
                keys, values = self.some(1, count), self.some(1, count)
                mine.update_and_fetch(keys, values)
                other.update_and_fetch(keys, values)
        self.ours, self.theirs = ours[0].merge(ours), theirs[0].merge(theirs)

    def some(self, rows: int, count: int) -> mx.array:
        self.random, key = mx.random.split(self.random)
        return mx.random.normal((rows, HEADS, count, WIDTH), key=key)

    def add(self, count: int) -> None:
        keys, values = self.some(len(self.ours), count), self.some(len(self.ours), count)
        got, wanted = self.ours.update_and_fetch(keys, values), self.theirs.update_and_fetch(keys, values)
        self.compare(got, wanted)

    def compare(self, got, wanted) -> None:
        padding = self.ours.left_padding.tolist()
        assert padding == self.theirs.left_padding.tolist()
        assert self.ours.offset.tolist() == self.theirs.offset.tolist()
        assert self.ours.size() == self.theirs.size()
        assert self.ours.make_mask(2).tolist() == self.theirs.make_mask(2).tolist()
        for packed, array in zip(got, wanted, strict=True):
            mine, other = exact(packed, self.bits), rounded(array, self.bits)
            for row, empty in enumerate(padding):
                assert np.array_equal(mine[row, :, empty:], other[row, :, empty:])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_mlx_lms_batch_cache_with_fewer_bits(bits: int, seed: int) -> None:
    draw = random.Random(seed)
    both = Both([draw.randint(0, 300) for _ in range(3)], bits, seed)
    for _ in range(14):
        match draw.choice(["add", "add", "prompt", "join", "leave", "trim"]):
            case "add":
                both.add(draw.choice([1, 1, 40]))
            case "prompt":
                longest = draw.randint(1, 9)
                padding = [draw.randint(0, longest - 1) for _ in range(len(both.ours))]
                for cache in (both.ours, both.theirs):
                    cache.prepare(lengths=[longest - one for one in padding], right_padding=padding)
                both.add(longest)
                both.ours.finalize()
                both.theirs.finalize()
            case "join":
                other = Both([draw.randint(0, 20) for _ in range(2)], bits, draw.randint(9, 99))
                both.ours.extend(other.ours)
                both.theirs.extend(other.theirs)
            case "leave" if len(both.ours) > 1:
                keep = sorted(draw.sample(range(len(both.ours)), len(both.ours) - 1))
                both.ours.filter(keep)
                both.theirs.filter(keep)
            case "trim":
                least = min(cache for cache in both.ours.offset.tolist())
                count = max(0, min(3, least))
                assert both.ours.trim(count) == both.theirs.trim(count)
        both.add(1)
    for row in range(len(both.ours)):
        mine, other = both.ours.extract(row), both.theirs.extract(row)
        assert mine.size() == other.offset
        assert np.array_equal(exact(mine.keys, bits), rounded(other.keys, bits))
        assert np.array_equal(exact(mine.values, bits), rounded(other.values, bits))
    assert isinstance(both.theirs, BatchKVCache)
    assert both.ours.nbytes < both.theirs.nbytes * (0.5 if bits == 8 else 0.3)


def answers(backend: MLXLLMBackend, questions: list[str]) -> list[str]:
    running = [backend.stream(question, temperature=0.0, max_tokens=40) for question in questions]
    return [one.result().text for one in running]


QUESTIONS = [
    "What is twelve plus thirty?",
    "Hello!",
    "What is seven times eight?",
    "Thank you very much!",
    "Who are you?",
]


def test_answers_with_8_bits_are_the_same_together_and_alone(starter_chat: Path) -> None:
    with MLXLLMBackend(starter_chat, dtype="float32", prompt_cache_mb=0) as plain:
        expected = answers(plain, QUESTIONS)
        assert plain.details["kv_bits"] is None
    with MLXLLMBackend(starter_chat, dtype="float32", kv_bits=8, n_lanes=4) as backend:
        assert backend.details["kv_bits"] == 8
        assert answers(backend, QUESTIONS) == expected
        assert [backend.chat(one, temperature=0.0, max_tokens=40).text for one in QUESTIONS] == expected
        layers = backend._engine._generator._generation_batch.prompt_cache or backend._engine._make_cache()
        assert isinstance(layers[0], (SequenceCache, BatchCache))
        # The next turn takes up the quantized keys and values of the last one.
        first = backend.chat("What is twelve plus thirty?", temperature=0.0, max_tokens=40)
        turns = [
            {"role": "user", "content": "What is twelve plus thirty?"},
            {"role": "assistant", "content": first.text},
            {"role": "user", "content": "And minus two?"},
        ]
        assert backend.chat(turns, temperature=0.0, max_tokens=40).usage.cached_tokens >= first.usage.prompt_tokens
    with MLXLLMBackend(starter_chat, dtype="float32", kv_bits=4) as backend:
        assert len(answers(backend, QUESTIONS)) == len(QUESTIONS)


class Windowed(nn.Module):
    """A model whose layers all see a window."""

    layers: list[object] = [None, None]

    def make_cache(self):
        return [RotatingKVCache(8) for _ in self.layers]

    def __call__(self, tokens, cache):
        return mx.zeros((*tokens.shape, 4))


class Narrow(Windowed):
    """A model with 24 numbers in each head."""

    def make_cache(self):
        return [KVCache() for _ in self.layers]

    def __call__(self, tokens, cache):
        for one in cache:
            one.update_and_fetch(mx.zeros((1, 2, 1, 24)), mx.zeros((1, 2, 1, 24)))
        return mx.zeros((*tokens.shape, 4))


@pytest.mark.parametrize(("model", "said"), [(Windowed(), "another way"), (Narrow(), "24 numbers wide")])
def test_models_without_such_keys_are_told(model, said) -> None:
    with pytest.raises(BadInput, match=said) as raised:
        cache_maker(model, 8)
    assert raised.value.param == "kv_bits"
