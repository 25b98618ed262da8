"""TensorRT on NVIDIA GPUs: the runtime's descriptor. This version has no backend for it yet."""

from llama_pajamas_run_tensorrt.runtime import RUNTIME

__all__ = ["RUNTIME"]
