"""Vision and speech through Core ML, on the Neural Engine, GPU and CPU of Apple's chips.

The names below import their backend, and with it the SDK, when they are first used.
"""

from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_coreml.runtime import RUNTIME

if TYPE_CHECKING:
    from llama_pajamas_run_coreml.stt import CoreMLSTTBackend as CoreMLSTTBackend
    from llama_pajamas_run_coreml.vision import CoreMLVisionBackend as CoreMLVisionBackend

__all__ = ["RUNTIME", "CoreMLSTTBackend", "CoreMLVisionBackend"]

__getattr__ = lazy_backends(__name__, RUNTIME)
