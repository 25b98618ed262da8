"""Where TensorRT 8.6, 10 and 11 differ, in one table; everything else uses the calls that all of them have.

Sources: NVIDIA's migration guides 8.x to 10.x and 10.x to 11.x, and the Python reference of each version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llama_pajamas_run_core.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Differences:
    """What one series of TensorRT wants that another does not.

    Attributes:
        series: "8.6", "10" or "11".
        explicit_batch: a network has to be made with the flag EXPLICIT_BATCH (gone in 10).
        strongly_typed: precision follows from the types in the graph alone; the flags FP16 and INT8 are gone (11).
        calibrators: INT8 by a calibrator is there (8.6 and 10, where it is deprecated; gone in 11).
        profile_sharing: several contexts share an optimization profile only where an engine was built with the preview
            feature PROFILE_SHARING_0806 (8.6; always so from 10 on).
        progress: a build reports its progress through IProgressMonitor (from 10 on).
        opset: the newest ONNX opset that its parser reads.
        min_cuda: the oldest CUDA version that the driver has to serve for the packages of this series.
        min_capability: the oldest compute capability it runs on.
        user_memory: how a context is made whose scratch memory we give: by "without_device_memory" or by the
            allocation "strategy" USER_MANAGED.
        memory_size: the engine's attribute with the bytes of that memory.
        tactic_libraries: for a tactic source the names of the library behind it, and a function that it always has.
    """

    series: str
    explicit_batch: bool
    strongly_typed: bool
    calibrators: bool
    profile_sharing: bool
    progress: bool
    opset: int
    min_cuda: tuple[int, int]
    min_capability: tuple[int, int]
    user_memory: str
    memory_size: tuple[str, ...]
    tactic_libraries: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)


#: By major version.
TABLE: dict[int, Differences] = {
    8: Differences(
        series="8.6",
        explicit_batch=True,
        strongly_typed=False,
        calibrators=True,
        profile_sharing=True,
        progress=False,
        opset=17,
        min_cuda=(12, 0),
        min_capability=(5, 0),
        user_memory="without_device_memory",
        memory_size=("device_memory_size",),
        tactic_libraries={
            "CUBLAS": (("libcublas.so.12", "libcublas.so.11"), "cublasGetVersion_v2"),
            "CUBLAS_LT": (("libcublasLt.so.12", "libcublasLt.so.11"), "cublasLtGetVersion"),
            "CUDNN": (("libcudnn.so.8",), "cudnnGetVersion"),
        },
    ),
    10: Differences(
        series="10",
        explicit_batch=False,
        strongly_typed=False,
        calibrators=True,
        profile_sharing=False,
        progress=True,
        opset=22,
        min_cuda=(13, 0),
        min_capability=(7, 5),
        user_memory="strategy",
        memory_size=("device_memory_size_v2", "device_memory_size"),  # the former since 10.1
    ),
    11: Differences(
        series="11",
        explicit_batch=False,
        strongly_typed=True,
        calibrators=False,
        profile_sharing=False,
        progress=True,
        opset=24,
        min_cuda=(13, 0),
        min_capability=(7, 5),
        user_memory="strategy",
        memory_size=("device_memory_size_v2",),
    ),
}


def parse(version: str) -> tuple[int, ...]:
    """A version as numbers: "8.6.1" or "10.14.1.48.post1" as (8, 6, 1) or (10, 14, 1, 48)."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def differences(version: str) -> Differences:
    """The row for a version of TensorRT.

    Args:
        version: as ``tensorrt.__version__`` gives it.

    Raises:
        Unsupported: older than 8.6. A version newer than the table is taken for the newest row.
    """
    numbers = parse(version)
    if numbers < (8, 6) or numbers[0] == 9:
        raise Unsupported(
            f"TensorRT {version} is not supported.", hint="run-tensorrt works with TensorRT 8.6, 10 and 11."
        )
    return TABLE.get(numbers[0], TABLE[max(TABLE)])


def compatible(built: str, installed: str, *, numbers: int = 3) -> bool:
    """Whether an engine built by one version loads in another: the same major, minor and patch number.

    Args:
        built: the version that built the engine.
        installed: the version that is to load it.
        numbers: how many of the numbers have to agree.
    """
    return parse(built)[:numbers] == parse(installed)[:numbers]
