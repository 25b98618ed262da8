"""The profile of this machine."""

import logging
import platform
from collections.abc import Callable
from typing import TypeVar

from llama_pajamas_run_core.hardware.apple import probe_apple
from llama_pajamas_run_core.hardware.cpu import probe_processor
from llama_pajamas_run_core.hardware.nvidia import probe_nvidia
from llama_pajamas_run_core.hardware.topology import probe_links
from llama_pajamas_run_core.types.hardware import AppleChip, GPULink, HardwareProfile, NvidiaGPU, Processor

_log = logging.getLogger(__name__)
_Facts = TypeVar("_Facts")


def detect() -> HardwareProfile:
    """Look at this machine.

    Takes milliseconds, a few tens of them where an NVIDIA driver has to be asked. Never raises: a probe that fails
    leaves its part empty and the reason in ``notes``.
    """
    notes: dict[str, str] = {}
    unknown = Processor(platform.machine() or "unknown", platform.machine(), 1, 1)
    processor = _probe("processor", probe_processor, unknown, notes)
    no_gpus: tuple[tuple[NvidiaGPU, ...], str | None] = ((), None)
    gpus, no_gpu = _probe("nvidia", probe_nvidia, no_gpus, notes)
    no_chips: tuple[AppleChip | None, str | None] = (None, None)
    chip, no_chip = _probe("apple", probe_apple, no_chips, notes)
    notes.update({name: reason for name, reason in (("nvidia", no_gpu), ("apple", no_chip)) if reason is not None})
    no_links: tuple[GPULink, ...] = ()
    links = _probe("links", lambda: probe_links(gpus), no_links, notes) if len(gpus) > 1 else no_links
    return HardwareProfile(_system(), _release(), processor, gpus, chip, links, notes)


def _probe(name: str, probe: Callable[[], _Facts], otherwise: _Facts, notes: dict[str, str]) -> _Facts:
    try:
        return probe()
    except Exception as error:
        _log.exception("probe=%s failed", name)
        notes[name] = f"the probe failed: {type(error).__name__}: {error}"
        return otherwise


def _system() -> str:
    system = platform.system()
    if system == "Linux" and hasattr(platform, "android_ver"):  # Python 3.13 tells Android by itself
        return "Android" if platform.android_ver().release else system
    return {"iPadOS": "iOS"}.get(system, system)


def _release() -> str:
    if platform.system() == "Darwin":
        return platform.mac_ver()[0]
    if platform.system() == "Linux":
        try:
            facts = platform.freedesktop_os_release()
        except OSError:
            return platform.release()
        return facts.get("PRETTY_NAME") or platform.release()
    return platform.release()
