"""Language models through MLX, on Apple silicon.

The names below import their backend, and with it the SDK, when they are first used.
"""

from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.packages import lazy_backends
from llama_pajamas_run_mlx.runtime import RUNTIME

if TYPE_CHECKING:
    from llama_pajamas_run_mlx.llm import MLXLLMBackend as MLXLLMBackend

__all__ = ["RUNTIME", "MLXLLMBackend"]

__getattr__ = lazy_backends(__name__, RUNTIME)
