"""What run-coreml is. Imports no SDK."""

from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task

#: The first macOS that runs the packages that are exported here (iOS 17's generation of ML Programs).
_OLDEST_MACOS = 14


def _supports(profile: HardwareProfile) -> str | None:
    if profile.system not in ("Darwin", "iOS"):
        return "Core ML exists on macOS and iOS only"
    if profile.system == "iOS":
        return None
    if (major := profile.release.partition(".")[0]).isdigit() and int(major) < _OLDEST_MACOS:
        return f"the packages are for macOS {_OLDEST_MACOS} and later, this is {profile.release}"
    return None


RUNTIME = RuntimeInfo(
    name="coreml",
    title="Core ML",
    rooms={
        Task.VISION: Room(
            "llama_pajamas_run_coreml.vision:CoreMLVisionBackend",
            formats=("coreml",),
            families="YOLOv8 and YOLO11 detectors, classifiers (ResNet, ViT, ...), CLIP-style image and text embedders",
            modules=("coremltools", "tokenizers"),
            install="uv pip install coremltools tokenizers",
        ),
        Task.STT: Room(
            "llama_pajamas_run_coreml.stt:CoreMLSTTBackend",
            formats=("coreml-whisper",),
            families="Whisper, Distil-Whisper",
            modules=("coremltools",),
            install="uv pip install coremltools",
        ),
    },
    hardware="Macs, iPhones and iPads; on Apple silicon with the Neural Engine",
    supports=_supports,
    present="an Apple system found",
    commands={
        "export": "llama_pajamas_run_coreml.export_command:export_coreml",
        "verify": "llama_pajamas_run_coreml.verify_command:verify",
    },
)
