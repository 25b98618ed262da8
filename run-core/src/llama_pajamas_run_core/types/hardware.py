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
    """An NVIDIA GPU, or the part of one that MIG sets apart, as NVML reports it.

    Attributes:
        index: NVML's index, of a part that of the whole GPU.
        uuid: "GPU-...", or "MIG-..." for a part.
        name: "NVIDIA H200".
        compute_capability: (9, 0).
        memory: bytes in all.
        memory_free: bytes free.
        driver: the driver's version.
        cuda: the highest CUDA version the driver serves, (13, 0).
        integrated: whether it shares the host's memory (Jetson).
        bus: its address on the PCI bus ("00000000:18:00.0"); "" where unknown.
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
    bus: str = ""


@dataclass(frozen=True, slots=True)
class GPULink:
    """How two GPUs reach each other.

    Attributes:
        first: the index of one.
        second: the index of the other.
        path: what of the PCI bus lies between them, as nvidia-smi calls it: "X" (the same board), "PIX" (one switch),
            "PXB" (several switches), "PHB" (the processor's host bridge), "NODE" (several of them within one NUMA node)
            or "SYS" (between processors); "" where unknown.
        nvlinks: how many NVLinks join them besides, over NVSwitches or directly.
    """

    first: int
    second: int
    path: str
    nvlinks: int = 0


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
        nvidia: the GPUs that CUDA_VISIBLE_DEVICES lets this process use, in CUDA's order.
        apple: the chip, on Apple silicon.
        links: how the GPUs reach each other, one entry for each two; empty with fewer than two.
        notes: for what was looked for and not found, why ("nvidia": "no NVIDIA driver is installed").
    """

    system: str
    release: str
    processor: Processor
    nvidia: tuple[NvidiaGPU, ...] = ()
    apple: AppleChip | None = None
    links: tuple[GPULink, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
