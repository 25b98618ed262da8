"""What run-mlx is. Imports no SDK."""

from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task


def _supports(profile: HardwareProfile) -> str | None:
    if profile.system == "Linux":
        if profile.processor.architecture == "x86_64" and "avx2" not in profile.processor.features:
            return "MLX needs a processor with AVX2"
        return None
    if profile.apple is None or profile.system != "Darwin":
        return "MLX needs a Mac with Apple silicon, or Linux"
    if (major := profile.release.partition(".")[0]).isdigit() and int(major) < 14:
        return f"MLX needs macOS 14, this is {profile.release}"
    return None


# The extra "cpu" is for Linux and adds nothing on a Mac.
RUNTIME = RuntimeInfo(
    name="mlx",
    title="MLX",
    rooms={
        Task.LLM: Room(
            "llama_pajamas_run_mlx.llm:MLXLLMBackend",
            formats=("mlx", "huggingface-llm"),
            families="Llama, Qwen, Mistral, Gemma, Phi and all others that mlx-lm knows",
            modules=("mlx_lm", "llguidance"),
            install='uv pip install "mlx-lm[cpu]" llguidance',
        ),
        Task.STT: Room(
            "llama_pajamas_run_mlx.stt:MLXSTTBackend",
            formats=("mlx-whisper",),
            families="Whisper, Distil-Whisper",
            modules=("mlx",),
            install='uv pip install "mlx[cpu]"',
        ),
    },
    hardware="Apple silicon",
    supports=_supports,
    commands={"export": "llama_pajamas_run_mlx.commands:export"},
)
