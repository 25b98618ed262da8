"""How an MLX language model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Final, Self

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.language.options import read_options
from llama_pajamas_run_mlx._session import DTYPES

#: How small the numbers in the cache of keys and values can be.
KV_BITS: Final = (4, 8)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What :class:`MLXLLMBackend` can be told about a model. None always means "choose for me".

    Attributes:
        n_ctx: the most tokens of one conversation, answer included; None for what the model was trained for, at most
            8192.
        n_lanes: how many requests are worked on at once; others wait. None for 8.
        n_batch: the most tokens of a prompt computed in one step; None for 512.
        dtype: what to compute in: "float32", "float16" or "bfloat16"; None for what the weights are stored in, but
            float32 for quantized weights on a CPU, which is slow in 16 bits.
        kv_bits: bits of each number in the cache of keys and values: 4 or 8, smaller and a little less exact; None for
            what is computed in. Caches that do not grow (of layers that see a window) stay as they are.
        prompt_cache_mb: MiB of keys and values kept of conversations that have ended, so that their next turn need not
            be read from the beginning; None for 512, 0 for none.
        chat_template: a Jinja template instead of the model's own.
        adapter: folder of an adapter made by mlx-lm, LoRA, DoRA or whole layers, applied to all requests.
        adapters: LoRA adapters that requests choose by name (``adapter="NAME"``): name -> folder, made by mlx-lm or by
            Hugging Face's PEFT. Requests with different adapters share steps.
    """

    n_ctx: int | None = None
    n_lanes: int | None = None
    n_batch: int | None = None
    dtype: str | None = None
    kv_bits: int | None = None
    prompt_cache_mb: int | None = None
    chat_template: str | None = None
    adapter: str | PathLike[str] | None = None
    adapters: Mapping[str, str | PathLike[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Self:
        """From keyword arguments.

        Raises:
            BadInput: there is no such option, or a value is out of range.
        """
        made = read_options(cls, options, {"n_ctx": 1, "n_lanes": 1, "n_batch": 1, "prompt_cache_mb": 0})
        if made.kv_bits is not None and made.kv_bits not in KV_BITS:
            raise BadInput(f"kv_bits is one of {', '.join(map(str, KV_BITS))}, not {made.kv_bits!r}.", param="kv_bits")
        if made.dtype is not None and made.dtype not in DTYPES:
            raise BadInput(f"dtype is one of {', '.join(DTYPES)}, not {made.dtype!r}.", param="dtype")
        return made
