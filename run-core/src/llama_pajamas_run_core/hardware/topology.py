"""How several GPUs reach each other: over NVLink, and over what of the PCI bus."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

from llama_pajamas_run_core.hardware import nvml as library
from llama_pajamas_run_core.types.hardware import GPULink, NvidiaGPU

#: NVML's levels of the PCI bus, by nvidia-smi's names for them.
_PATHS: Final = {0: "X", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
#: The same for people.
_LABELS: Final = {
    "X": "the same board",
    "PIX": "one PCIe switch",
    "PXB": "several PCIe switches",
    "PHB": "a PCIe host bridge",
    "NODE": "several PCIe host bridges of one NUMA node",
    "SYS": "the link between processors",
    "": "unknown",
}


def probe_links(gpus: Sequence[NvidiaGPU]) -> tuple[GPULink, ...]:
    """How each two of these GPUs reach each other; nothing where NVML does not answer."""
    try:
        nvml = library.load()
        with library.opened(nvml):
            return ask_links(nvml, gpus)
    except library.NoNVML:
        return ()


def ask_links(nvml: Any, gpus: Sequence[NvidiaGPU]) -> tuple[GPULink, ...]:
    """What :func:`probe_links` gives, from a module with NVML's functions, initialized."""
    handles = {}
    for gpu in gpus:
        try:
            handles[gpu.index] = nvml.nvmlDeviceGetHandleByIndex(gpu.index)
        except nvml.NVMLError:
            continue
    ends = {index: _nvlinks(nvml, handle) for index, handle in handles.items()}
    buses = {gpu.index: _plain(gpu.bus) for gpu in gpus}
    links = []
    for first, second in combinations(handles, 2):
        direct = ends[first].get(buses[second], 0)
        switched = min(ends[first].get(_SWITCH, 0), ends[second].get(_SWITCH, 0))
        links.append(GPULink(first, second, _path(nvml, handles[first], handles[second]), direct + switched))
    return tuple(links)


def describe(link: GPULink) -> str:
    """A link for people: "18 NVLinks", or what of the PCI bus lies between."""
    if link.nvlinks:
        return f"{link.nvlinks} NVLink{'s' if link.nvlinks > 1 else ''}"
    return f"PCIe, over {_LABELS.get(link.path, link.path)}" if link.path else "unknown"


_SWITCH: Final = "switch"


def _nvlinks(nvml: Any, handle: Any) -> dict[str, int]:
    """How many NVLinks lead to which other end: the PCI address of a GPU, or a switch."""
    ends: dict[str, int] = {}
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            if not nvml.nvmlDeviceGetNvLinkState(handle, link):
                continue
            if nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link) == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
                end = _SWITCH
            else:
                end = _plain(library.text(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId))
        except nvml.NVMLError:  # GPUs have fewer links than NVML has numbers for, or none
            continue
        ends[end] = ends.get(end, 0) + 1
    return ends


def _path(nvml: Any, first: Any, second: Any) -> str:
    try:
        return _PATHS.get(int(nvml.nvmlDeviceGetTopologyCommonAncestor(first, second)), "")
    except nvml.NVMLError:
        return ""


def _plain(bus: str) -> str:
    """An address on the PCI bus without the zeros that some calls write before the domain, and some do not."""
    return bus.lower().lstrip("0")
