"""GGUF language models through llama.cpp, and Whisper through whisper.cpp, on any CPU or GPU.

The names below import their backend, and with it the SDK, when they are first used.
"""

from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_gguf.runtime import RUNTIME

if TYPE_CHECKING:
    from llama_pajamas_run_gguf.llm import GGUFLLMBackend as GGUFLLMBackend
    from llama_pajamas_run_gguf.stt import GGUFSTTBackend as GGUFSTTBackend

__all__ = ["RUNTIME", "GGUFLLMBackend", "GGUFSTTBackend"]

__getattr__ = lazy_backends(__name__, RUNTIME)
