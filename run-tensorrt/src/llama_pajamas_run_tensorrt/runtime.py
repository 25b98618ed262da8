"""What run-tensorrt is. Imports no SDK."""

from llama_pajamas_run_core.runtimes.info import RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile

#: TensorRT 10 runs on Turing and newer (its support matrix, section "Hardware and Precision").
_MIN_CAPABILITY = (7, 5)
#: The first CUDA version that a driver must serve for the packages of CUDA 13.
_MIN_CUDA = (13, 0)


def _supports(profile: HardwareProfile) -> str | None:
    if not profile.nvidia:
        why = profile.notes.get("nvidia")
        return f"no NVIDIA GPU: {why}" if why else "no NVIDIA GPU"
    if profile.system != "Linux" or profile.processor.architecture not in ("x86_64", "arm64"):
        return f"run-tensorrt is made for Linux, this is {profile.system}"
    best = max(profile.nvidia, key=lambda gpu: gpu.compute_capability)
    if best.compute_capability < _MIN_CAPABILITY:
        has = _version(best.compute_capability)
        return f"TensorRT 10 needs compute capability {_version(_MIN_CAPABILITY)}, the GPU has {has}"
    if not best.integrated and best.cuda < _MIN_CUDA:
        return f"needs a driver for CUDA {_version(_MIN_CUDA)}, driver {best.driver} serves CUDA {_version(best.cuda)}"
    return None


def _version(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]}"


RUNTIME = RuntimeInfo(
    name="tensorrt",
    title="TensorRT",
    rooms={},  # a room is added with its backend; until then the selection says that there is none
    hardware="NVIDIA GPUs from Turing (compute capability 7.5) on, Linux",
    supports=_supports,
    present="driver found",
)
