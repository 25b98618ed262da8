"""What run-onnx is. Imports no SDK."""

from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task


def _supports(profile: HardwareProfile) -> str | None:
    return None  # ONNX Runtime picks its code for the processor it finds


RUNTIME = RuntimeInfo(
    name="onnx",
    title="ONNX Runtime",
    rooms={
        Task.VISION: Room(
            "llama_pajamas_run_onnx.vision:ONNXVisionBackend",
            formats=("onnx-vision",),
            families="YOLOv8 and YOLO11 detectors, also with masks; Faster R-CNN-style detectors; classifiers (ResNet, "
            "ViT, ...); CLIP-style image and text embedders",
            modules=("onnxruntime", "tokenizers"),
            install="uv pip install onnxruntime tokenizers",
        ),
        Task.STT: Room(
            "llama_pajamas_run_onnx.stt:ONNXSTTBackend",
            formats=("onnx-whisper",),
            families="Whisper (OpenAI's, distilled and fine-tuned ones), also as Hugging Face's optimum exports it",
            modules=("onnxruntime",),
            install="uv pip install onnxruntime",
        ),
        Task.TTS: Room(
            "llama_pajamas_run_onnx.tts:ONNXTTSBackend",
            formats=("piper", "kokoro"),
            families="Piper voices, Kokoro",
            modules=("onnxruntime", "piper", "kokoro_onnx"),
            install="uv pip install onnxruntime piper-tts kokoro-onnx",
        ),
    },
    hardware="any CPU; GPUs where the installed ONNX Runtime has a provider for them",
    supports=_supports,
    commands={"export": "llama_pajamas_run_onnx.export.command:export_onnx"},
)
