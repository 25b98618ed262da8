"""A LoRA adapter of random weights for the tiny GGUF model."""

from pathlib import Path

import gguf
import numpy as np


def write_adapter(path: Path, *, dim: int = 64, layers: int = 2, seed: int = 1, architecture: str = "llama") -> Path:
    """Write one for the query projections of a model with so wide and so many layers."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    for layer in range(layers):
        for half, shape in (("a", (4, dim)), ("b", (dim, 4))):
            values = rng.standard_normal(shape, dtype=np.float32)
            writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_{half}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
