"""Language models and Whisper through MLX, on Apple silicon.

The names below import their backend, and with it the SDK, when they are first used.
"""

from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_mlx.runtime import RUNTIME

if TYPE_CHECKING:
    from llama_pajamas_run_mlx.llm import MLXLLMBackend as MLXLLMBackend
    from llama_pajamas_run_mlx.stt import MLXSTTBackend as MLXSTTBackend

__all__ = ["RUNTIME", "MLXLLMBackend", "MLXSTTBackend"]

__getattr__ = lazy_backends(__name__, RUNTIME)
