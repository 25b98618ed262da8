"""Vision models, Whisper and neural voices through ONNX Runtime, on any machine.

The names below import their backend, and with it the SDK, when they are first used.
"""

from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_onnx.runtime import RUNTIME

if TYPE_CHECKING:
    from llama_pajamas_run_onnx.stt import ONNXSTTBackend as ONNXSTTBackend
    from llama_pajamas_run_onnx.tts import ONNXTTSBackend as ONNXTTSBackend
    from llama_pajamas_run_onnx.vision import ONNXVisionBackend as ONNXVisionBackend

__all__ = ["RUNTIME", "ONNXSTTBackend", "ONNXTTSBackend", "ONNXVisionBackend"]

__getattr__ = lazy_backends(__name__, RUNTIME)
