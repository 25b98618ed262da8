"""What vision transformers and CLIP's two towers have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError, Unsupported
from llama_pajamas_run_onnx.export.checkpoint import Checkpoint
from llama_pajamas_run_onnx.export.graph import Graph


@dataclass(frozen=True, slots=True)
class Encoder:
    """A stack of layers, each normalized before its attention and before its feed-forward part.

    Attributes:
        layer: what the names of a layer's tensors begin with; "{}" is its number.
        norms: the names of the two normalizations.
        attention: the names of queries, keys, values and output.
        feed_forward: the names of the two products.
        heads: of the attention.
        activation: between the two products, by Hugging Face's name.
        epsilon: of the normalizations.
    """

    layer: str
    norms: tuple[str, str]
    attention: tuple[str, str, str, str]
    feed_forward: tuple[str, str]
    heads: int
    activation: str
    epsilon: float

    def write(self, graph: Graph, checkpoint: Checkpoint, x: str, mask: str | None = None) -> str:
        """Write all layers that the checkpoint has.

        Args:
            graph: written to.
            checkpoint: the weights.
            x: [n, places, width].
            mask: added to the scores of the attention.

        Raises:
            LoadError: a tensor is missing, or the width is no multiple of the heads.
        """
        count = 0
        while f"{self.layer.format(count)}.{self.norms[0]}.weight" in checkpoint:
            x = self._layer(graph, checkpoint, x, self.layer.format(count), mask)
            count += 1
        if not count:
            raise LoadError(f"{checkpoint.folder} has no tensor {self.layer.format(0)}.{self.norms[0]}.weight.")
        return x

    def _layer(self, graph: Graph, checkpoint: Checkpoint, x: str, name: str, mask: str | None) -> str:
        y = norm(graph, checkpoint, x, f"{name}.{self.norms[0]}", self.epsilon)
        q, k, v = (linear(graph, checkpoint, y, f"{name}.{part}") for part in self.attention[:3])
        width = len(checkpoint.tensor(f"{name}.{self.attention[0]}.weight"))
        if width % self.heads:
            raise LoadError(f"{checkpoint.folder}: {width} channels do not divide into {self.heads} heads.")
        y = graph.attend(q, k, v, self.heads, width // self.heads, mask)
        x = graph.node("Add", x, linear(graph, checkpoint, y, f"{name}.{self.attention[3]}"))
        y = norm(graph, checkpoint, x, f"{name}.{self.norms[1]}", self.epsilon)
        y = graph.activation(linear(graph, checkpoint, y, f"{name}.{self.feed_forward[0]}"), self.activation)
        return graph.node("Add", x, linear(graph, checkpoint, y, f"{name}.{self.feed_forward[1]}"))


def linear(graph: Graph, checkpoint: Checkpoint, x: str, name: str) -> str:
    """A product with a checkpoint's weights, with its bias where it has one."""
    return graph.linear(x, name, checkpoint.tensor(f"{name}.weight"), checkpoint.optional(f"{name}.bias"))


def norm(graph: Graph, checkpoint: Checkpoint, x: str, name: str, epsilon: float) -> str:
    """A layer normalization with a checkpoint's weights."""
    return graph.layer_norm(x, name, checkpoint.tensor(f"{name}.weight"), checkpoint.tensor(f"{name}.bias"), epsilon)


def patches(
    graph: Graph,
    pixels: str,
    name: str,
    kernel: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None],
    tokens: Sequence[npt.NDArray[np.float32]],
    positions: npt.NDArray[np.float32],
    size: tuple[int, int],
) -> str:
    """The patches of an image as vectors, extra tokens in front, with their positions.

    Args:
        graph: written to.
        pixels: [n, channels, height, width].
        name: of the convolution.
        kernel: its weights, whose sides are the patch's, and its bias.
        tokens: [width] each, in front of the patches.
        positions: [tokens + patches, width].
        size: height and width of the image.

    Returns:
        [n, tokens + patches, width]

    Raises:
        LoadError: the positions are not as many as tokens and patches.
        Unsupported: the patches are not square.
    """
    weight, bias = kernel
    width, _, high, wide = weight.shape
    if high != wide:
        raise Unsupported(f"Patches of {high} x {wide} pixels are not exported.")
    count = (size[0] // high) * (size[1] // wide)
    if len(positions) != count + len(tokens):
        raise LoadError(f"There are {len(positions)} positions for {count} patches and {len(tokens)} tokens.")
    x = graph.conv(pixels, name, weight, bias, stride=high)
    x = graph.node("Transpose", graph.node("Reshape", x, graph.shape(0, width, count)), perm=[0, 2, 1])
    # Zeros in front, and the tokens among the positions: so nothing has to be repeated for each image of the batch,
    # whose number only the run knows.
    x = graph.node("Pad", x, graph.shape(0, len(tokens), 0, 0, 0, 0))
    table = positions.copy()
    for place, token in enumerate(tokens):
        table[place] += token
    return graph.node("Add", x, graph.weight(f"{name}.positions", table[None]))


def sides(value: Any) -> tuple[int, int]:
    """Height and width from a configuration's image_size: one number or two."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
