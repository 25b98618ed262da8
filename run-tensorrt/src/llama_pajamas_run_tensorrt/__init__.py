"""TensorRT on NVIDIA GPUs: vision and speech as engines.

The names below import their backend, and with it the SDK, when they are first used.
"""

from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_tensorrt.runtime import RUNTIME

if TYPE_CHECKING:
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend as TensorRTSTTBackend
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend as TensorRTVisionBackend

__all__ = ["RUNTIME", "TensorRTSTTBackend", "TensorRTVisionBackend"]

__getattr__ = lazy_backends(__name__, RUNTIME)
