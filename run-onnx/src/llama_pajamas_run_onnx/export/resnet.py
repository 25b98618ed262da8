"""ResNets as ONNX, normalizations folded into the convolutions: classifiers and image encoders.

``model.onnx``
    ``pixel_values`` float32 [batch, 3, height, width], normalized as preprocessor_config.json tells; any size that the
    strides divide. A classifier gives ``logits`` [batch, classes], an encoder ``pooler_output`` [batch, channels].
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_onnx.export.checkpoint import Checkpoint
from llama_pajamas_run_onnx.export.description import finish, image_size
from llama_pajamas_run_onnx.export.graph import Graph
from llama_pajamas_run_onnx.export.transformer import linear

#: What PyTorch's BatchNorm2d adds to a variance; the checkpoints do not tell it.
_EPSILON = 1e-5


def write(checkpoint: Checkpoint, folder: Path, precision: str) -> None:
    """Write ``model.onnx`` and the files that describe it.

    Args:
        checkpoint: of ResNetModel or ResNetForImageClassification.
        folder: where to.
        precision: "fp32" or "fp16", what weights are stored in.

    Raises:
        BadInput: nothing tells the size of the images.
        LoadError: the checkpoint lacks something.
        Unsupported: it is a backbone or of an unknown kind.
    """
    config = checkpoint.config
    if "Backbone" in checkpoint.architecture:
        raise Unsupported(f"A {checkpoint.architecture} is not exported.", hint="Classifiers and encoders are.")
    size = image_size(checkpoint)
    if size is None:
        raise BadInput(
            f"{checkpoint.folder} tells no size of images.",
            hint="Put its preprocessor_config.json there.",
            param="model",
        )
    prefix = "resnet." if "resnet.embedder.embedder.convolution.weight" in checkpoint else ""
    graph = Graph("resnet")
    x = graph.input("pixel_values", ["batch", 3, *size])
    network = _Network(graph, checkpoint)
    x = network.conv(x, f"{prefix}embedder.embedder", stride=2)
    x = graph.activation(x, str(config.get("hidden_act", "relu")))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    depths: Sequence[int] = config.get("depths", (3, 4, 6, 3))
    for stage, depth in enumerate(depths):
        halved = stage > 0 or bool(config.get("downsample_in_first_stage", False))
        for layer in range(depth):
            name = f"{prefix}encoder.stages.{stage}.layers.{layer}"
            x = network.block(x, name, 2 if halved and layer == 0 else 1)
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)
    if "classifier.1.weight" in checkpoint:
        classes = len(checkpoint.tensor("classifier.1.weight"))
        graph.output("logits", linear(graph, checkpoint, x, "classifier.1"), ["batch", classes])
    else:
        graph.output("pooler_output", x, ["batch", network.channels])
    finish(checkpoint, folder, {"model": graph}, precision)


class _Network:
    """The parts of a ResNet, written one after the other.

    Attributes:
        channels: how many the last convolution gave.
    """

    def __init__(self, graph: Graph, checkpoint: Checkpoint) -> None:
        self._graph, self._checkpoint = graph, checkpoint
        self.channels = 0
        config = checkpoint.config
        self._kind = str(config.get("layer_type", "bottleneck"))
        if self._kind not in ("basic", "bottleneck"):
            raise LoadError(f"{checkpoint.folder}: layer_type is basic or bottleneck, not '{self._kind}'.")
        self._activation = str(config.get("hidden_act", "relu"))
        self._early = bool(config.get("downsample_in_bottleneck", False))

    def conv(self, x: str, name: str, stride: int = 1) -> str:
        """A convolution with the normalization behind it."""
        checkpoint = self._checkpoint
        weight = checkpoint.tensor(f"{name}.convolution.weight").astype(np.float64)
        gain, shift, mean, variance = (
            checkpoint.tensor(f"{name}.normalization.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / np.sqrt(variance + _EPSILON)
        self.channels, padding = len(weight), weight.shape[2] // 2
        return self._graph.conv(
            x,
            name,
            (weight * factor[:, None, None, None]).astype(np.float32),
            (shift - mean * factor).astype(np.float32),
            stride=stride,
            padding=padding,
        )

    def block(self, x: str, name: str, stride: int) -> str:
        """A residual block."""
        graph = self._graph
        count = 3 if self._kind == "bottleneck" else 2
        strided = 1 if self._kind == "bottleneck" and not self._early else 0
        y = x
        for index in range(count):
            y = self.conv(y, f"{name}.layer.{index}", stride if index == strided else 1)
            if index < count - 1:
                y = graph.activation(y, "relu")  # inside a block it is this one, whatever hidden_act says
        if f"{name}.shortcut.convolution.weight" in self._checkpoint:
            x = self.conv(x, f"{name}.shortcut", stride)
        return graph.activation(graph.node("Add", y, x), self._activation)
