"""How a GGUF language model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Self

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.language.options import read_options
from llama_pajamas_run_gguf._session import KV_TYPES


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What :class:`GGUFLLMBackend` can be told about a model. None always means "choose for me".

    Attributes:
        n_ctx: the most tokens of one conversation, answer included; None for what the model was trained for, at most
            8192.
        n_lanes: how many requests are worked on at once; others wait. None for 8.
        n_threads: to compute with; None for the physical cores.
        n_gpu_layers: how many layers to put on a GPU, where llama.cpp was built for one; None for all.
        device: the one GPU for them, by its UUID ("GPU-..."), its address on the PCI bus or llama.cpp's name ("CUDA1");
            None spreads them over all GPUs.
        n_batch: the most tokens computed in one step; None for 512.
        kv_type: what the cache stores: "f16", "q8_0" or "q4_0", smaller and a little less exact, or "f32". None for
            f16, or the smaller ones where memory is short.
        kv_cells: tokens that the cache holds over all requests. Requests wait, or give way and go on later, when it is
            full. None for ``n_ctx`` times ``n_lanes``, or less where that is much of the free memory.
        kv_unified: whether all requests share the cells of the cache; otherwise each has ``n_ctx`` of its own, which is
            faster the more requests there are and the longer they get, since a step's attention looks over every cell
            that a request could have. None for cells of its own where the model is computed on the processor, its
            cache is of one plain kind (no sliding window, no recurrent state), and ``kv_cells`` or the memory
            suffice for ``n_ctx`` times ``n_lanes``.
        prompt_cache_mib: memory of the host, in MiB, for the keys and values of conversations that wait for their next
            turn while others run, 256 of them at the most; 0 to compute them again. None for 1024, or less where a
            tenth of the free memory is.
        flash_attention: whether attention is computed by llama.cpp's fused kernels; None where it can be. They are
            faster, but round differently for one token than for many, so that now and then an answer depends on how its
            prompt was cut.
        speculation: "lookup" guesses tokens from what the conversation repeats, and checks several in one step. It
            helps one or a few requests that quote, edit or write code, and turns itself off where it does not pay.
            "off" (None) never guesses. A step of several tokens may be rounded otherwise than one of a single token.
        draft_model: a smaller GGUF model with the same vocabulary that guesses instead, or None.
        chat_template: a Jinja template instead of the model's own.
        projector: the GGUF file ("mmproj") that lets a multimodal model see or hear, or None.
        adapters: LoRA adapters to load beside the model: GGUF files by the names that requests give. More can be loaded
            later, with :meth:`GGUFLLMBackend.load_adapter`.
    """

    n_ctx: int | None = None
    n_lanes: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    device: str | None = None
    n_batch: int | None = None
    kv_type: str | None = None
    kv_cells: int | None = None
    kv_unified: bool | None = None
    prompt_cache_mib: int | None = None
    flash_attention: bool | None = None
    speculation: str | None = None
    draft_model: str | PathLike[str] | None = None
    chat_template: str | None = None
    projector: str | PathLike[str] | None = None
    adapters: Mapping[str, str | PathLike[str]] = field(default_factory=dict)

    @property
    def guesses(self) -> bool:
        """Whether tokens are to be guessed."""
        return self.speculation == "lookup" or (self.draft_model is not None and self.speculation != "off")

    @classmethod
    def of(cls, options: dict[str, Any]) -> Self:
        """From keyword arguments.

        Raises:
            BadInput: there is no such option, or a value is out of range.
        """
        least = dict.fromkeys(("n_ctx", "n_lanes", "n_threads", "n_batch", "kv_cells"), 1)
        made = read_options(cls, options, {**least, "prompt_cache_mib": 0})
        if made.kv_type is not None and made.kv_type not in KV_TYPES:
            raise BadInput(f"kv_type is one of {', '.join(KV_TYPES)}, not {made.kv_type!r}.", param="kv_type")
        if made.speculation not in (None, "off", "lookup"):
            raise BadInput(f"speculation is 'lookup' or 'off', not {made.speculation!r}.", param="speculation")
        if made.kv_unified not in (None, True, False):
            raise BadInput(f"kv_unified is True, False or None, not {made.kv_unified!r}.", param="kv_unified")
        return made
