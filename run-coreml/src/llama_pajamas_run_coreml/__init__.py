"""Core ML on Apple's chips: the runtime's descriptor. This version has no backend for it yet."""

from llama_pajamas_run_coreml.runtime import RUNTIME

__all__ = ["RUNTIME"]
