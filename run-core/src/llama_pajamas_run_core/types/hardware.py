"""What a machine has."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Processor:
    """The CPU and its memory.

    Attributes:
        name: the vendor's name ("AMD EPYC 7B13").
        architecture: "x86_64" or "arm64".
        cores: physical cores this process may use.
        threads: logical processors this process may use.
        features: instruction sets that matter to inference ("avx2", "avx512f", "amx_int8", "neon", ...).
        memory: bytes in all, or what a container allows.
        memory_free: bytes that can be taken without swapping.
    """

    name: str
    architecture: str
    cores: int
    threads: int
    features: frozenset[str] = frozenset()
    memory: int = 0
    memory_free: int = 0


@dataclass(frozen=True, slots=True)
class NvidiaGPU:
    """An NVIDIA GPU, as NVML reports it.

    Attributes:
        index: NVML's index.
        uuid: "GPU-...".
        name: "NVIDIA H200".
        compute_capability: (9, 0).
        memory: bytes in all.
        memory_free: bytes free.
        driver: the driver's version.
        cuda: the highest CUDA version the driver serves, (13, 0).
        integrated: whether it shares the host's memory (Jetson).
    """

    index: int
    uuid: str
    name: str
    compute_capability: tuple[int, int]
    memory: int
    memory_free: int
    driver: str
    cuda: tuple[int, int]
    integrated: bool = False


@dataclass(frozen=True, slots=True)
class AppleChip:
    """An Apple silicon chip.

    Attributes:
        name: "Apple M3 Max".
        memory: bytes of unified memory.
        gpu_cores: cores of its GPU, or 0 where unknown.
        neural_engine: whether it has one.
    """

    name: str
    memory: int
    gpu_cores: int = 0
    neural_engine: bool = True


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """A machine, as far as the choice of runtimes needs to know it. Recorded ones serve tests and planning.

    Attributes:
        system: "Linux", "Darwin", "Windows", "iOS" or "Android".
        release: the system's version ("14.5"), "" where unknown.
        processor: the CPU and its memory.
        nvidia: the GPUs, in NVML's order.
        apple: the chip, on Apple silicon.
        notes: for what was looked for and not found, why ("nvidia": "no NVIDIA driver is installed").
    """

    system: str
    release: str
    processor: Processor
    nvidia: tuple[NvidiaGPU, ...] = ()
    apple: AppleChip | None = None
    notes: dict[str, str] = field(default_factory=dict)
