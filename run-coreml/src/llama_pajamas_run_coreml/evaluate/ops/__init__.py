"""What each operation does, in a file for each family. Importing this package fills the table in ``registry``."""

from llama_pajamas_run_coreml.evaluate.ops import (
    activations,
    compressed,
    convolution,
    elementwise,
    gathering,
    layout,
    linear,
    norms,
    pooling,
    recurrent,
    reductions,
    resizing,
)
from llama_pajamas_run_coreml.evaluate.ops.registry import KINDS

__all__ = [
    "KINDS",
    "activations",
    "compressed",
    "convolution",
    "elementwise",
    "gathering",
    "layout",
    "linear",
    "norms",
    "pooling",
    "recurrent",
    "reductions",
    "resizing",
]
