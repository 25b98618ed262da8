"""What run-tensorrt is. Imports no SDK."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_tensorrt._versions import TABLE, Differences, differences

#: The packages that bring TensorRT, those for a CUDA version of their own first.
_PACKAGES: Final = (
    "tensorrt-cu13", "tensorrt-cu12", "tensorrt", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings",
    "tensorrt-bindings", "tensorrt_bindings",
)  # fmt: skip
_MODULES: Final = ("tensorrt", "pycuda")
#: What to type where a package is missing.
INSTALL: Final = "uv pip install 'llama-pajamas-run-tensorrt[tensorrt,export]'"
#: What would be installed where nothing is.
_DEFAULT: Final = TABLE[10]


def _supports(profile: HardwareProfile) -> str | None:
    if not profile.nvidia:
        why = profile.notes.get("nvidia")
        return f"no NVIDIA GPU: {why}" if why else "no NVIDIA GPU"
    if profile.system != "Linux" or profile.processor.architecture not in ("x86_64", "arm64"):
        return f"run-tensorrt is made for Linux, this is {profile.system}"
    table, cuda = _installed()
    best = max(profile.nvidia, key=lambda gpu: gpu.compute_capability)
    if best.compute_capability < table.min_capability:
        needs, has = _dotted(table.min_capability), _dotted(best.compute_capability)
        return f"TensorRT {table.series} needs compute capability {needs}, the GPU has {has}"
    # Jetson's CUDA comes with its system, and NVML there tells another version.
    if not best.integrated and best.cuda < cuda:
        return f"needs a driver for CUDA {_dotted(cuda)}, driver {best.driver} serves CUDA {_dotted(best.cuda)}"
    return None


@cache
def _installed() -> tuple[Differences, tuple[int, int]]:
    """The row of the TensorRT that is installed, else of the one that would be, and the CUDA that its driver serves.

    Told from the packages' names and versions: nothing is imported.
    """
    for package in _PACKAGES:
        try:
            table = differences(version(package))
        except (PackageNotFoundError, Unsupported):
            continue
        return table, (12, 0) if "cu12" in package else table.min_cuda
    return _DEFAULT, _DEFAULT.min_cuda


def _dotted(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]}"


RUNTIME = RuntimeInfo(
    name="tensorrt",
    title="TensorRT",
    rooms={
        Task.VISION: Room(
            "llama_pajamas_run_tensorrt.vision:TensorRTVisionBackend",
            formats=("tensorrt", "onnx-vision"),
            families="YOLOv8 and YOLO11 detectors, also with masks; Faster R-CNN-style detectors; classifiers (ResNet, "
            "ViT, ...); CLIP-style image and text embedders",
            modules=_MODULES,
            install=INSTALL,
            device="device",
        ),
        Task.STT: Room(
            "llama_pajamas_run_tensorrt.stt:TensorRTSTTBackend",
            formats=("tensorrt-whisper", "onnx-whisper"),
            families="Whisper (OpenAI's, distilled and fine-tuned ones)",
            modules=_MODULES,
            install=INSTALL,
            device="device",
        ),
    },
    hardware="NVIDIA GPUs from Turing (compute capability 7.5) on, Linux",
    supports=_supports,
    present="driver found",
    commands={"export": "llama_pajamas_run_tensorrt.export.command:export"},
)
