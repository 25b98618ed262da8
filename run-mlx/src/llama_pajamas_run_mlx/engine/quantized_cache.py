"""Keys and values in 4 or 8 bits, also for sequences that share steps: mlx-lm has them for one sequence alone."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import KVCache, QuantizedKVCache, dynamic_roll, make_prompt_cache

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_mlx._session import number

#: Numbers that share a scale, the larger one first: it costs less.
GROUPS: Final = (64, 32)
#: What a cache grows by.
_STEP: Final = 256

#: Numbers as MLX quantizes them: packed, scales, biases; each [b, h, n, ...].
Packed = tuple[mx.array, mx.array, mx.array]


class SequenceCache(QuantizedKVCache):
    """One sequence's quantized keys and values, which can join those of others."""

    def merge(self, caches: Sequence["SequenceCache"]) -> "BatchCache":
        """Several sequences as one batch."""
        return BatchCache.of(caches)

    def size(self) -> int:
        """How many tokens it holds."""
        return int(self.offset)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return 0 if self.keys is None else sum(array.nbytes for array in (*self.keys, *self.values))


class BatchCache:
    """The quantized keys and values of several sequences, which end at the same place and begin at their own.

    It has the attributes and methods that mlx-lm's batch generator and models expect of its own ``BatchKVCache``.

    Args:
        left_padding: how many places before each sequence are empty.
        bits: 4 or 8.
        group_size: numbers that share a scale.
    """

    def __init__(self, left_padding: Sequence[int], *, bits: int, group_size: int) -> None:
        self.bits, self.group_size = bits, group_size
        self.keys: Packed | None = None
        self.values: Packed | None = None
        self.left_padding = mx.array(list(left_padding))
        self.offset = mx.array([-padding for padding in left_padding])
        self._end = 0
        self._right_padding: mx.array | None = None

    @classmethod
    def of(cls, caches: Sequence[SequenceCache]) -> "BatchCache":
        """Several sequences as one batch."""
        longest = max(cache.size() for cache in caches)
        padding = [longest - cache.size() for cache in caches]
        made = cls(padding, bits=caches[0].bits, group_size=caches[0].group_size)
        if longest:
            example = next(cache for cache in caches if cache.keys is not None)

            def joined(name: str) -> Packed:
                held = zip((getattr(cache, name) for cache in caches), caches, padding, strict=True)
                return _packed([_left(one, cache.size(), pad, getattr(example, name)) for one, cache, pad in held])

            made.keys, made.values = joined("keys"), joined("values")
            made.offset = made.offset + longest
            made._end = longest
        return made

    # What a model calls

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Packed, Packed]:
        """Add keys and values [b, h, n, d]; all there are now."""
        begin, count = self._end, keys.shape[2]
        added = [mx.quantize(one, group_size=self.group_size, bits=self.bits) for one in (keys, values)]
        if self.keys is None or self.values is None or begin + count > self.keys[0].shape[2]:
            room = -(-count // _STEP) * _STEP
            self.keys, self.values = (
                _map(lambda held, new: _grown(held, new, begin, room), old or (None,) * 3, fresh)
                for old, fresh in zip((self.keys, self.values), added, strict=True)
            )
        self._end += count
        self.offset = self.offset + count
        for held, fresh in zip((self.keys, self.values), added, strict=True):
            for array, new in zip(held, fresh, strict=True):
                array[..., begin : self._end, :] = new
        return self._filled(self.keys), self._filled(self.values)

    def make_mask(self, count: int, return_array: bool = False, **more: Any) -> mx.array:
        """Which of the places each of the next ``count`` tokens sees."""
        mask: mx.array = create_causal_mask(count, offset=self._end, left_padding=self.left_padding, **more)
        return mask

    # What the batch generator calls

    def prepare(
        self,
        *,
        left_padding: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        right_padding: Sequence[int] | None = None,
    ) -> None:
        """Prompts of different lengths are about to be added."""
        if left_padding is not None:
            if self.keys is not None:
                raise ValueError("only an empty cache can be padded on the left")
            self.left_padding = self.left_padding + mx.array(list(left_padding))
            self.offset = self.offset - mx.array(list(left_padding))
        if right_padding is not None and max(right_padding) > 0:
            self._right_padding = mx.array(list(right_padding))

    def finalize(self) -> None:
        """Those prompts were added: what is empty behind them goes before them."""
        if self._right_padding is None or self.keys is None or self.values is None:
            return
        padding = self._right_padding
        self.keys, self.values = (
            _map(lambda array: dynamic_roll(array, padding[:, None], axis=2), packed)
            for packed in (self.keys, self.values)
        )
        self.offset = self.offset - padding
        self.left_padding = self.left_padding + padding
        self._right_padding = None

    def filter(self, keep: Sequence[int]) -> None:
        """Only these sequences go on."""
        kept = mx.array(list(keep))
        self.offset, self.left_padding = self.offset[kept], self.left_padding[kept]
        spare = number(self.left_padding.min())
        if self.keys is not None and self.values is not None:
            self.keys, self.values = (
                _map(lambda array: array[kept][..., spare:, :], packed) for packed in (self.keys, self.values)
            )
        self._end -= spare
        self.left_padding = self.left_padding - spare

    def extend(self, other: "BatchCache") -> None:
        """More sequences join."""
        end = max(self._end, other._end)
        example = self.keys or other.keys, self.values or other.values
        if example[0] is not None and example[1] is not None:
            self.keys, self.values = (
                _packed([_left(held, cache._end, end - cache._end, like, len(cache)) for held, cache in pairs])
                for pairs, like in (
                    (((self.keys, self), (other.keys, other)), example[0]),
                    (((self.values, self), (other.values, other)), example[1]),
                )
            )
        self.left_padding = mx.concatenate(
            [self.left_padding + (end - self._end), other.left_padding + (end - other._end)]
        )
        self.offset = mx.concatenate([self.offset, other.offset])
        self._end = end

    def extract(self, index: int) -> SequenceCache:
        """One sequence, for itself."""
        made = SequenceCache(group_size=self.group_size, bits=self.bits)
        begin = number(self.left_padding[index])
        if self.keys is not None and self.values is not None:
            made.keys, made.values = (
                _map(lambda array: mx.contiguous(array[index : index + 1, :, begin : self._end]), packed)
                for packed in (self.keys, self.values)
            )
        made.offset = self._end - begin
        return made

    def __len__(self) -> int:
        return int(self.offset.shape[0])

    def __bool__(self) -> bool:
        return True

    def size(self) -> int:
        """How many places there are."""
        return self._end

    def empty(self) -> bool:
        """Whether nothing was added yet."""
        return self.keys is None

    def is_trimmable(self) -> bool:
        """Whether tokens can be taken off the end."""
        return True

    def trim(self, count: int) -> int:
        """Take tokens off the end."""
        count = min(self._end, count)
        self._end -= count
        self.offset = self.offset - count
        return count

    @property
    def state(self) -> Any:
        """What has to be computed for the cache to be complete."""
        return self.keys, self.values, self.offset, self.left_padding

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        if self.keys is None or self.values is None:
            return 0
        return sum(array.nbytes for array in (*self.keys, *self.values))

    def _filled(self, packed: Packed) -> Packed:
        return _map(lambda array: array[..., : self._end, :], packed)


def cache_maker(model: nn.Module, bits: int) -> Callable[[], list[Any]]:
    """What makes a sequence's caches, one for each layer.

    Layers that see a window, or remember in another way, keep what they have: it does not grow.

    Args:
        model: of mlx-lm.
        bits: 4 or 8.

    Raises:
        BadInput: none of the model's layers has keys and values that can be quantized.
    """
    plain = make_prompt_cache(model)
    model(mx.array([[0]]), cache=plain)
    widths = {
        array.shape[-1] for cache in plain if type(cache) is KVCache for array in (cache.keys, cache.values)
    }  # fmt: skip
    group = next((size for size in GROUPS if widths and all(width % size == 0 for width in widths)), None)
    if group is None:
        why = f"{min(widths)} numbers wide, no multiple of {GROUPS[-1]}" if widths else "kept in another way"
        raise BadInput(f"This model's keys and values are {why}: they stay as they are.", param="kv_bits")

    def make() -> list[Any]:
        fresh = make_prompt_cache(model)
        return [SequenceCache(group_size=group, bits=bits) if type(cache) is KVCache else cache for cache in fresh]

    try:
        tried = [cache.merge([cache]) if isinstance(cache, SequenceCache) else cache for cache in make()]
        mx.eval(model(mx.array([[0]]), cache=tried))
    except (ValueError, RuntimeError, TypeError) as error:
        raise BadInput(f"This model does not work with quantized keys and values: {error}.", param="kv_bits") from error
    return make


def _map(function: Callable[..., mx.array], *packed: Any) -> Packed:
    first, second, third = (function(*arrays) for arrays in zip(*packed, strict=True))
    return first, second, third


def _packed(parts: Sequence[Packed]) -> Packed:
    """Several sequences' arrays as one's of all."""
    return _map(lambda *arrays: mx.concatenate(list(arrays), axis=0), *parts)


def _grown(held: mx.array | None, new: mx.array, filled: int, room: int) -> mx.array:
    space = mx.zeros((*new.shape[:2], room, new.shape[3]), new.dtype)
    return space if held is None else mx.concatenate([held[..., :filled, :], space], axis=2)


def _left(packed: Packed | None, filled: int, padding: int, like: Packed, rows: int = 1) -> Packed:
    """Arrays behind so many empty places; where there are none yet, empty places alone."""

    def pad(array: mx.array) -> mx.array:
        return mx.pad(array[..., :filled, :], [(0, 0), (0, 0), (padding, 0), (0, 0)])

    if packed is not None:
        return _map(pad, packed)
    return _map(lambda array: mx.zeros((rows, array.shape[1], filled + padding, array.shape[3]), array.dtype), like)
