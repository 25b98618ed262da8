"""What run-gguf is. Imports no SDK."""

from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task

#: What llama.cpp is compiled for on x86-64 (GGML_NATIVE=OFF); without it the process dies of an illegal instruction.
_X86_FEATURES = ("avx", "avx2", "fma", "f16c", "bmi2")


def _supports(profile: HardwareProfile) -> str | None:
    cpu = profile.processor
    lacking = [name for name in _X86_FEATURES if name not in cpu.features]
    if cpu.architecture == "x86_64" and cpu.features and lacking:
        return f"llama.cpp is built for processors with {', '.join(lacking)}, which {cpu.name} lacks"
    return None


RUNTIME = RuntimeInfo(
    name="gguf",
    title="llama.cpp and whisper.cpp",
    rooms={
        Task.LLM: Room(
            "llama_pajamas_run_gguf.llm:GGUFLLMBackend",
            formats=("gguf",),
            families="Llama, Qwen, Mistral, Gemma, Phi and all others that llama.cpp knows",
            modules=("llama_cpp",),
            # GGML_NATIVE=OFF: a build for the host's own processor crashes on quantized models where it has AMX.
            install='CMAKE_ARGS="-DGGML_NATIVE=OFF" uv pip install llama-cpp-python==0.3.36',
            device="device",
            spreads=True,
        ),
        Task.STT: Room(
            "llama_pajamas_run_gguf.stt:GGUFSTTBackend",
            formats=("ggml-whisper",),
            families="Whisper, Distil-Whisper",
            modules=("pywhispercpp",),
            install="uv pip install pywhispercpp==1.5.1",
        ),
    },
    hardware="any CPU; NVIDIA, AMD and Apple GPUs where llama-cpp-python was built for them",
    supports=_supports,
)
