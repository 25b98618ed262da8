"""The abstract backends, one per modality: what a runtime implements, and what it gets for that."""

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend, LLMCapabilities, SingleLaneLLMBackend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.backends.whisper import WhisperSTTBackend

__all__ = [
    "Backend",
    "Generation",
    "LLMBackend",
    "LLMCapabilities",
    "STTBackend",
    "SingleLaneLLMBackend",
    "TTSBackend",
    "VisionBackend",
    "WhisperSTTBackend",
]
