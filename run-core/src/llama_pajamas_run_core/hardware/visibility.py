"""Which GPUs CUDA would let this process use, told without initializing it.

CUDA_VISIBLE_DEVICES holds indexes, UUIDs or unique beginnings of UUIDs, or names of MIG's parts; see the section on
environment variables in https://docs.nvidia.com/cuda/cuda-c-programming-guide/.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llama_pajamas_run_core.types.hardware import NvidiaGPU

VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
_ORDER: Final = "CUDA_DEVICE_ORDER"


@dataclass(frozen=True, slots=True)
class Card:
    """A whole GPU.

    Attributes:
        gpu: the GPU.
        parts: where MIG divides it, its parts by their older names ("MIG-GPU-.../1/0"); None where it is not divided.
            A divided one is only used through its parts.
    """

    gpu: NvidiaGPU
    parts: Mapping[str, NvidiaGPU] | None = None

    def usable(self) -> NvidiaGPU | None:
        """What CUDA uses of it: itself, or the first of its parts; None where it is divided and has none."""
        return self.gpu if self.parts is None else next(iter(self.parts.values()), None)


def visible(cards: Sequence[Card], environ: Mapping[str, str]) -> tuple[NvidiaGPU, ...]:
    """The GPUs that CUDA would let a process use, in the order in which it would count them.

    Args:
        cards: all GPUs in NVML's order, which is that of the PCI bus.
        environ: the process's environment variables. Unless CUDA_DEVICE_ORDER is PCI_BUS_ID, CUDA puts the fastest GPU
            first; which is meant by an index is then only sure where all GPUs are alike.
    """
    ordered = list(cards)
    if environ.get(_ORDER) != "PCI_BUS_ID":
        ordered.sort(key=lambda card: card.gpu.compute_capability, reverse=True)
    wanted = environ.get(VARIABLE)
    if wanted is None:
        found = [gpu for card in ordered if (gpu := card.usable()) is not None]
        found.sort(key=_is_part)
    else:
        found = _named(ordered, [name.strip() for name in wanted.split(",")])
    # Of MIG's parts a process can use one, and no whole GPU beside it.
    return tuple(found[:1] if found and _is_part(found[0]) else [gpu for gpu in found if not _is_part(gpu)])


def hidden(cards: Sequence[Card], seen: Sequence[NvidiaGPU], environ: Mapping[str, str]) -> str | None:
    """Why GPUs of this machine are not used, or None where all are."""
    value = environ.get(VARIABLE)
    unused = len(cards) - len({gpu.index for gpu in seen})
    if not unused:
        return None
    count = "all" if not seen else f"{unused} of"
    if value is not None:
        return f"{VARIABLE}={value} hides {count} {len(cards)} GPUs"
    return f"MIG divides GPUs, and CUDA lets a process use one part: {unused} of {len(cards)} GPUs are not used"


def _named(ordered: Sequence[Card], names: Sequence[str]) -> list[NvidiaGPU]:
    """CUDA reads the names up to the first that is none, and takes nothing at all where one comes twice."""
    found: list[NvidiaGPU] = []
    for name in names:
        gpu = _find(ordered, name)
        if gpu is None:
            break
        if gpu in found:
            return []
        found.append(gpu)
    return found


def _find(ordered: Sequence[Card], name: str) -> NvidiaGPU | None:
    if name.startswith("MIG-"):
        parts = [pair for card in ordered for pair in (card.parts or {}).items()]
        matching = [gpu for old, gpu in parts if gpu.uuid.startswith(name) or old == name]
        return matching[0] if len(matching) == 1 else None
    if name.startswith("GPU-"):
        # Seen on hardware (driver 580): the bare prefix names none, even of one GPU.
        cards = [card for card in ordered if card.gpu.uuid.startswith(name) and name != "GPU-"]
        return cards[0].usable() if len(cards) == 1 else None
    number = re.match(r"\d+", name)  # CUDA reads as far as there are digits
    if number is None or int(number[0]) >= len(ordered):
        return None
    return ordered[int(number[0])].usable()


def _is_part(gpu: NvidiaGPU) -> bool:
    return gpu.uuid.startswith("MIG-")
