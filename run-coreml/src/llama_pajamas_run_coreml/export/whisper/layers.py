"""The layers that encoder and decoder are made of."""

import math
from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import mb
from llama_pajamas_run_coreml.export.whisper.checkpoint import WhisperCheckpoint

_EPSILON: Final = np.float32(1e-5)


class Layers:
    """Layers of one part of a checkpoint, by their names in it.

    Args:
        checkpoint: where the weights are.
        heads: of each attention.
        width: of the part.
    """

    def __init__(self, checkpoint: WhisperCheckpoint, heads: int, width: int) -> None:
        self._checkpoint, self._heads, self._width = checkpoint, heads, width

    def norm(self, x: Any, name: str) -> Any:
        """Normalize over the last axis."""
        gamma, beta = self._checkpoint.tensor(f"{name}.weight"), self._checkpoint.tensor(f"{name}.bias")
        return mb.layer_norm(x=x, axes=[-1], gamma=gamma, beta=beta, epsilon=_EPSILON)

    def linear(self, x: Any, name: str, *, scale: float = 1.0) -> Any:
        """A product with weights, its result times ``scale``."""
        weight, bias = self._checkpoint.linear(name)
        return mb.linear(x=x, weight=weight * np.float32(scale), bias=bias * np.float32(scale))

    def queries(self, x: Any, name: str) -> Any:
        """Queries of x [1, n, d], scaled: [heads, n, d / heads]."""
        return self._split(self.linear(x, f"{name}.q_proj", scale=1 / math.sqrt(self._width // self._heads)))

    def keys(self, x: Any, name: str) -> Any:
        """Keys of x [1, n, d]: [heads, n, d / heads]."""
        return self._split(self.linear(x, f"{name}.k_proj"))

    def values(self, x: Any, name: str) -> Any:
        """Values of x [1, n, d]: [heads, n, d / heads]."""
        return self._split(self.linear(x, f"{name}.v_proj"))

    def attend(self, scores: Any, values: Any, name: str) -> Any:
        """What scores [heads, n, m] make of values [heads, m, d / heads]: [1, n, d]."""
        mixed = mb.matmul(x=mb.softmax(x=scores, axis=-1), y=values)
        together = mb.reshape(x=mb.transpose(x=mixed, perm=[1, 0, 2]), shape=[1, -1, self._width])
        return self.linear(together, f"{name}.out_proj")

    def mlp(self, x: Any, name: str) -> Any:
        """X with what the two wide layers add to it."""
        wide = mb.gelu(x=self.linear(self.norm(x, f"{name}.final_layer_norm"), f"{name}.fc1"), mode="EXACT")
        return mb.add(x=x, y=self.linear(wide, f"{name}.fc2"))

    def _split(self, x: Any) -> Any:
        apart = mb.reshape(x=x, shape=[-1, self._heads, self._width // self._heads])
        return mb.transpose(x=apart, perm=[1, 0, 2])


def scored(queries: Any, keys: Any) -> Any:
    """How much queries [heads, n, w] attend to keys [heads, m, w]: [heads, n, m]."""
    return mb.matmul(x=queries, y=keys, transpose_y=True)
