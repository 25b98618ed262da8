"""MLX on Apple silicon: the runtime's descriptor. This version has no backend for it yet."""

from llama_pajamas_run_mlx.runtime import RUNTIME

__all__ = ["RUNTIME"]
