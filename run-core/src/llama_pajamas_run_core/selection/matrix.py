"""The selection matrix: for each kind of machine and each task, the runtimes from best to worst, with the why.

To change which runtime wins somewhere, change a row. A machine is of the first class that matches it; the rows of the
class "universal" follow those of every class.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from llama_pajamas_run_core.types.hardware import HardwareProfile, NvidiaGPU
from llama_pajamas_run_core.types.tasks import Task

#: NVIDIA's data-center line, by the names that NVML reports.
_DATA_CENTER = re.compile(r"\b(GB?[0-9]{3}|GH[0-9]{3}|[ABHLPV][0-9]{1,3}[SGX]?|T4G?)\b")
_NOT_DATA_CENTER = re.compile(r"GeForce|Quadro|RTX|TITAN|NVS", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HardwareClass:
    """A kind of machine.

    Attributes:
        name: short and unique ("workstation").
        title: for people ("workstation with an NVIDIA GPU").
        matches: whether a machine is of this class.
    """

    name: str
    title: str
    matches: Callable[[HardwareProfile], bool]


@dataclass(frozen=True, slots=True)
class Rank:
    """A runtime's place in a row.

    Attributes:
        runtime: its short name.
        why: why it has that place, for people.
    """

    runtime: str
    why: str


def is_data_center(gpu: NvidiaGPU) -> bool:
    """Whether a GPU is of NVIDIA's data-center line (A100, H100, H200, B200, L40S, T4, ...)."""
    return not gpu.integrated and bool(_DATA_CENTER.search(gpu.name)) and not _NOT_DATA_CENTER.search(gpu.name)


#: The classes of machines, the most specific first.
CLASSES: tuple[HardwareClass, ...] = (
    HardwareClass(
        "data-center", "data center (A100, H100, H200, ...)", lambda machine: any(map(is_data_center, machine.nvidia))
    ),
    HardwareClass(
        "embedded",
        "embedded NVIDIA (Jetson)",
        lambda machine: any(gpu.integrated for gpu in machine.nvidia),
    ),
    HardwareClass("workstation", "workstation (NVIDIA RTX)", lambda machine: bool(machine.nvidia)),
    HardwareClass(
        "mac", "Mac with Apple silicon", lambda machine: machine.system == "Darwin" and machine.apple is not None
    ),
    HardwareClass("mobile", "iPhone or iPad", lambda machine: machine.system == "iOS"),
    HardwareClass("universal", "any machine", lambda machine: True),
)

_THROUGHPUT = "the highest throughput on data-center GPUs"
_RTX = "the fastest on an RTX GPU"
_JETSON = "built for Jetson's GPU and its memory"
_NATIVE = "native on Apple silicon, and efficient"
_PACKAGE = "Core ML packages are what iOS runs"

#: The matrix: (class, task) -> runtimes, the best first.
MATRIX: dict[tuple[str, Task], tuple[Rank, ...]] = {
    ("data-center", Task.LLM): (Rank("tensorrt", _THROUGHPUT),),
    ("data-center", Task.VISION): (Rank("tensorrt", _THROUGHPUT),),
    ("data-center", Task.STT): (Rank("tensorrt", _THROUGHPUT),),
    ("embedded", Task.LLM): (Rank("tensorrt", _JETSON),),
    ("embedded", Task.VISION): (Rank("tensorrt", _JETSON),),
    ("embedded", Task.STT): (Rank("tensorrt", _JETSON),),
    ("workstation", Task.LLM): (Rank("tensorrt", _RTX),),
    ("workstation", Task.VISION): (Rank("tensorrt", _RTX),),
    ("workstation", Task.STT): (Rank("tensorrt", _RTX),),
    ("mac", Task.LLM): (Rank("mlx", _NATIVE),),
    ("mac", Task.VISION): (Rank("coreml", "the Neural Engine: " + _NATIVE),),
    ("mac", Task.STT): (Rank("coreml", "the Neural Engine: " + _NATIVE), Rank("mlx", _NATIVE)),
    ("mac", Task.TTS): (Rank("system", "the Mac's own voices need no model"),),
    ("mobile", Task.LLM): (Rank("coreml", _PACKAGE),),
    ("mobile", Task.VISION): (Rank("coreml", _PACKAGE),),
    ("mobile", Task.STT): (Rank("coreml", _PACKAGE),),
    ("mobile", Task.TTS): (Rank("system", "the system's own voices need no model"),),
    ("universal", Task.LLM): (Rank("gguf", "runs on any CPU or GPU"),),
    ("universal", Task.VISION): (Rank("onnx", "runs on any machine"),),
    ("universal", Task.STT): (
        Rank("gguf", "whisper.cpp runs on any CPU or GPU"),
        Rank("onnx", "runs on any machine"),
    ),
    ("universal", Task.TTS): (
        Rank("onnx", "neural voices on any machine"),
        Rank("system", "the voice that is always there"),
    ),
}


def hardware_class(profile: HardwareProfile) -> HardwareClass:
    """The class that a machine is of."""
    return next(kind for kind in CLASSES if kind.matches(profile))


def ranking(profile: HardwareProfile, task: Task) -> tuple[Rank, ...]:
    """The runtimes for a task on a machine, the best first: the rows of its class, then the universal ones."""
    ranks: dict[str, Rank] = {}
    for name in (hardware_class(profile).name, "universal"):
        for rank in MATRIX.get((name, task), ()):
            ranks.setdefault(rank.runtime, rank)
    return tuple(ranks.values())


def known_runtimes(task: Task) -> tuple[str, ...]:
    """Every runtime that some row names for a task, in the matrix's order."""
    return tuple(dict.fromkeys(rank.runtime for (_, of), row in MATRIX.items() if of is task for rank in row))
