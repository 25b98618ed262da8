"""Vision models of random weights and real shapes, for measuring speed where no trained weights are at hand.

    python benchmarks/vision_models.py yolov8n
    python benchmarks/vision_models.py resnet50 --folder /tmp/models

Prints the folder of the model (model.onnx and what describes it), made once and kept in the user's cache folder. Opset
17, free batch, no PyTorch. The weights are drawn, then scaled layer by layer as batch normalization would on a few
pictures, so that the activations stay in the range of trained networks and half precision holds them; a detector's
scores are shifted so that a few dozen places in a picture pass the usual threshold.
"""

import argparse
import functools
import json
import math
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from common.pictures import pictures

from llama_pajamas_run_core.artifacts.places import cache_dir
from llama_pajamas_run_onnx.export.graph import Graph

#: Changed with whatever changes the files, so that old ones are not taken for new ones.
RECIPE: Final = 3
#: Places that pass the usual threshold of 0.25 in the median picture.
_CANDIDATES: Final = 60
_THRESHOLD: Final = math.log(0.25 / 0.75)
_FAR_DOWN: Final = -8.0
_COCO: Final = 80
_BINS: Final = 16
_STRIDES: Final = (8, 16, 32)

Array = npt.NDArray[Any]
#: Mean and deviation of each channel of each convolution.
Statistics = Mapping[str, tuple[Array, Array]]


class Maker:
    """Writes a network into a graph: convolutions with a normalization folded into them.

    Args:
        graph: what it is written into.
        statistics: of each convolution; None to write a graph that normalizes and tells them instead.
    """

    def __init__(self, graph: Graph, statistics: Statistics | None) -> None:
        self.graph = graph
        self._statistics = statistics

    def conv(
        self,
        x: str,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        activation: str | None = "silu",
        gain: float = 1.0,
        offset: float | Array = 0.0,
        vary: float = 0.3,
        edges: bool = False,
    ) -> str:
        """A convolution whose outputs have, before the activation, about the mean ``offset`` and deviation ``gain``.

        Args:
            x: the input.
            name: of the weights.
            inputs: channels in.
            outputs: channels out.
            kernel: its sides.
            stride: of the convolution.
            activation: after it, or None.
            gain: the deviation.
            offset: the mean; for each channel or for all.
            vary: how much the channels' means and deviations differ.
            edges: whether it answers to what changes within its kernel alone.
        """
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        weight = rng.standard_normal((outputs, inputs, kernel, kernel)) / math.sqrt(inputs * kernel**2)
        if edges:
            weight -= weight.mean(axis=(2, 3), keepdims=True)
        gains = gain * rng.uniform(1 - vary, 1 + vary, outputs)
        offsets = np.broadcast_to(np.asarray(offset, np.float64), (outputs,)) + gain * vary * rng.standard_normal(
            outputs
        )
        graph, padding = self.graph, kernel // 2
        if self._statistics is None:
            y = graph.conv(x, name, weight.astype(np.float32), stride=stride, padding=padding)
            y = self._normalized(y, name, outputs, gains, offsets)
        else:
            mean, deviation = self._statistics[name]
            factor = gains / deviation
            weight, bias = weight * factor[:, None, None, None], offsets - mean * factor
            y = graph.conv(x, name, weight.astype(np.float32), bias.astype(np.float32), stride=stride, padding=padding)
        return y if activation is None else graph.activation(y, activation)

    def _normalized(self, y: str, name: str, channels: int, gains: Array, offsets: Array) -> str:
        """Brought to the wanted mean and deviation; both leave the graph."""
        graph, shape = self.graph, (1, channels, 1, 1)
        mean = graph.node("ReduceMean", y, axes=[0, 2, 3], keepdims=1)
        rest = graph.node("Sub", y, mean)
        variance = graph.node("ReduceMean", graph.node("Mul", rest, rest), axes=[0, 2, 3], keepdims=1)
        deviation = graph.node("Sqrt", graph.node("Add", variance, graph.constant(1e-6)))
        graph.output(f"{name}/mean", mean, shape)
        graph.output(f"{name}/deviation", deviation, shape)
        scaled = graph.node("Mul", graph.node("Div", rest, deviation), graph.constant(gains.reshape(shape)))
        return graph.node("Add", scaled, graph.constant(offsets.reshape(shape)))


def measured(write: Callable[[Maker], None], batch: Array) -> dict[str, tuple[Array, Array]]:
    """The statistics of a network's convolutions on a batch."""
    graph = Graph("statistics")
    write(Maker(graph, None))
    values = _run(graph, batch)
    names = [name.removesuffix("/mean") for name in values if name.endswith("/mean")]
    return {name: (values[f"{name}/mean"].ravel(), values[f"{name}/deviation"].ravel()) for name in names}


def _run(graph: Graph, batch: Array) -> dict[str, Array]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = graph.save(Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {session.get_inputs()[0].name: batch}), strict=True))


# YOLOv8 n, as https://github.com/ultralytics/ultralytics/blob/main/ultralytics/cfg/models/v8/yolov8.yaml lays it out;
# the weights have that project's names.


def _c2f(make: Maker, x: str, name: str, inputs: int, outputs: int, count: int, shortcut: bool) -> str:
    half, graph = outputs // 2, make.graph
    y = make.conv(x, f"{name}.cv1.conv", inputs, outputs)
    parts = graph.nodes("Split", y, graph.shape(half, half), outputs=2, axis=1)
    for index in range(count):
        inner = make.conv(parts[-1], f"{name}.m.{index}.cv1.conv", half, half, 3)
        inner = make.conv(inner, f"{name}.m.{index}.cv2.conv", half, half, 3)
        parts.append(graph.node("Add", parts[-1], inner) if shortcut else inner)
    return make.conv(graph.node("Concat", *parts, axis=1), f"{name}.cv2.conv", (2 + count) * half, outputs)


def _sppf(make: Maker, x: str, name: str, width: int) -> str:
    parts = [make.conv(x, f"{name}.cv1.conv", width, width // 2)]
    for _ in range(3):
        pooled = make.graph.node("MaxPool", parts[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2], strides=[1, 1])
        parts.append(pooled)
    return make.conv(make.graph.node("Concat", *parts, axis=1), f"{name}.cv2.conv", 2 * width, width)


def _doubled(make: Maker, x: str) -> str:
    return make.graph.node(
        "Resize",
        x,
        "",
        make.graph.constant([1, 1, 2, 2]),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def _body(make: Maker, x: str) -> tuple[str, str, str]:
    """The feature maps of strides 8, 16 and 32 with 64, 128 and 256 channels."""
    join = functools.partial(make.graph.node, "Concat", axis=1)
    x = make.conv(x, "model.0.conv", 3, 16, 3, 2)
    x = make.conv(x, "model.1.conv", 16, 32, 3, 2)
    x = _c2f(make, x, "model.2", 32, 32, 1, True)
    x = make.conv(x, "model.3.conv", 32, 64, 3, 2)
    p3 = _c2f(make, x, "model.4", 64, 64, 2, True)
    x = make.conv(p3, "model.5.conv", 64, 128, 3, 2)
    p4 = _c2f(make, x, "model.6", 128, 128, 2, True)
    x = make.conv(p4, "model.7.conv", 128, 256, 3, 2)
    p5 = _sppf(make, _c2f(make, x, "model.8", 256, 256, 1, True), "model.9", 256)
    n4 = _c2f(make, join(_doubled(make, p5), p4), "model.12", 384, 128, 1, False)
    n3 = _c2f(make, join(_doubled(make, n4), p3), "model.15", 192, 64, 1, False)
    down = make.conv(n3, "model.16.conv", 64, 64, 3, 2)
    n4 = _c2f(make, join(down, n4), "model.18", 192, 128, 1, False)
    down = make.conv(n4, "model.19.conv", 128, 128, 3, 2)
    return n3, n4, _c2f(make, join(down, p5), "model.21", 384, 256, 1, False)


def _branch(
    make: Maker, x: str, name: str, sizes: tuple[int, int, int], last: Mapping[str, Any], *, edges: bool = False
) -> str:
    inputs, width, outputs = sizes
    x = make.conv(x, f"{name}.0.conv", inputs, width, 3, edges=edges)
    x = make.conv(x, f"{name}.1.conv", width, width, 3, edges=edges)
    return make.conv(x, f"{name}.2", width, outputs, activation=None, **last)


def yolov8n(make: Maker, *, size: int = 640, classes: int = _COCO, masks: int = 0, shift: float = 0.0) -> None:
    """Write YOLOv8 n: output0 [n, 4 + classes + masks, places]; with masks also output1 [n, masks, size / 4, size / 4].

    Args:
        make: writes it.
        size: of the square input.
        classes: how many.
        masks: prototypes of a segmentation model; 0 for a detector.
        shift: added to the logits of the scores.
    """
    graph = make.graph
    maps = _body(make, graph.input("images", ["batch", 3, size, size]))
    cells = [(size // stride) ** 2 for stride in _STRIDES]
    # Trained heads are sure of a distance within a bin or two: a hill around a few cells on each side.
    bins = np.arange(_BINS)
    near = np.concatenate([-0.35 * (bins - middle) ** 2 for middle in (3.5, 5.0, 6.0, 4.5)])
    boxes, scores, coefficients = [], [], []
    for level, (x, width) in enumerate(zip(maps, (64, 128, 256), strict=True)):
        box = _branch(make, x, f"model.22.cv2.{level}", (width, 64, 4 * _BINS), {"gain": 0.5, "offset": near})
        score = _branch(
            make, x, f"model.22.cv3.{level}", (width, max(64, min(classes, 100)), classes),
            {"gain": 1.2, "offset": shift, "vary": 0.0}, edges=True,
        )  # fmt: skip
        boxes.append(graph.node("Reshape", box, graph.shape(0, 4 * _BINS, cells[level])))
        scores.append(graph.node("Reshape", score, graph.shape(0, classes, cells[level])))
        if masks:
            mask = _branch(make, x, f"model.22.cv4.{level}", (width, max(16, masks), masks), {})
            coefficients.append(graph.node("Reshape", mask, graph.shape(0, masks, cells[level])))
    logits = graph.node("Concat", *scores, axis=2)
    parts = [_decoded(graph, graph.node("Concat", *boxes, axis=2), size), graph.node("Sigmoid", logits)]
    if masks:
        parts.append(graph.node("Concat", *coefficients, axis=2))
    found = graph.node("Concat", *parts, axis=1)
    graph.output("output0", found, ["batch", 4 + classes + masks, sum(cells)])
    if masks:
        graph.output("output1", _prototypes(make, maps[0], masks), ["batch", masks, size // 4, size // 4])


def _decoded(graph: Graph, boxes: str, size: int) -> str:
    """[n, 64, places] logits of distances as [n, 4, places]: centres, widths and heights in pixels."""
    points, strides = [], []
    for stride in _STRIDES:
        y, x = np.mgrid[0 : size // stride, 0 : size // stride] + 0.5
        points.append(np.stack([x.ravel(), y.ravel()]))
        strides.append(np.full((1, x.size), stride))
    centres = graph.constant(np.concatenate(points, axis=1)[None])
    count = sum(one.shape[1] for one in points)
    bins = graph.node("Transpose", graph.node("Reshape", boxes, graph.shape(0, 4, _BINS, count)), perm=[0, 2, 1, 3])
    weight = np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1)
    distances = graph.conv(graph.node("Softmax", bins, axis=1), "model.22.dfl.conv", weight)
    distances = graph.node("Reshape", distances, graph.shape(0, 4, count))
    before, after = graph.nodes("Split", distances, graph.shape(2, 2), outputs=2, axis=1)
    low, high = graph.node("Sub", centres, before), graph.node("Add", centres, after)
    middle = graph.node("Div", graph.node("Add", low, high), graph.constant(2.0))
    corners = graph.node("Concat", middle, graph.node("Sub", high, low), axis=1)
    return graph.node("Mul", corners, graph.constant(np.concatenate(strides, axis=1)[None]))


def _prototypes(make: Maker, x: str, masks: int) -> str:
    width, graph = 64, make.graph
    x = make.conv(x, "model.22.proto.cv1.conv", width, width, 3)
    rng = np.random.default_rng(zlib.crc32(b"model.22.proto.upsample"))
    weight = (rng.standard_normal((width, width, 2, 2)) / math.sqrt(width)).astype(np.float32)
    x = graph.node(
        "ConvTranspose",
        x,
        graph.weight("model.22.proto.upsample.weight", weight),
        graph.weight("model.22.proto.upsample.bias", np.zeros(width, np.float32)),
        name="model.22.proto.upsample",
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    x = make.conv(x, "model.22.proto.cv2.conv", width, width, 3)
    return make.conv(x, "model.22.proto.cv3.conv", width, masks)


def _yolo(folder: Path, masks: int = 0, size: int = 640) -> None:
    batch = np.stack(pictures(12, size, size)).transpose(0, 3, 1, 2).astype(np.float32) / 255
    statistics = measured(lambda make: yolov8n(make, size=size, masks=masks), batch)
    graph = Graph("yolov8n")
    # Shifted far down, where a score near one cannot hide how large its logit is.
    yolov8n(Maker(graph, statistics), size=size, masks=masks, shift=_FAR_DOWN)
    # Told on other pictures than the statistics, which fit their own too well.
    batch = np.stack(pictures(12, size, size, seed=1)).transpose(0, 3, 1, 2).astype(np.float32) / 255
    scores = _run(graph, batch)["output0"][:, 4 : 4 + _COCO].max(axis=1).clip(1e-9, 1 - 1e-7).astype(np.float64)
    logits = np.sort(np.log(scores) - np.log1p(-scores), axis=1)
    shift = _FAR_DOWN + _THRESHOLD - float(np.median(logits[:, -_CANDIDATES]))
    graph = Graph("yolov8n-seg" if masks else "yolov8n")
    yolov8n(Maker(graph, statistics), size=size, masks=masks, shift=shift)
    graph.save(
        folder / "model.onnx",
        {
            "description": f"YOLOv8n{'-seg' if masks else ''} shaped, random weights",
            "license": "Apache-2.0",
            "stride": "32",
            "task": "segment" if masks else "detect",
            "batch": "1",
            "imgsz": f"[{size}, {size}]",
            "names": repr({index: f"class{index}" for index in range(_COCO)}),
        },
    )


# ResNet-50 with the stride in the 3 x 3 convolutions, the names of the weights torchvision's.


def resnet50(make: Maker, *, classes: int = 1000) -> None:
    """Write ResNet-50: logits [n, classes] of images [n, 3, 224, 224]."""
    graph = make.graph
    x = graph.input("images", ["batch", 3, 224, 224])
    x = make.conv(x, "conv1", 3, 64, 7, 2, activation="relu")
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = make.conv(x, f"{name}.conv1", inputs, width, activation="relu")
            y = make.conv(y, f"{name}.conv2", width, width, 3, stride, activation="relu")
            # The branch adds half of a deviation each time, so that the sum over a stage stays small.
            y = make.conv(y, f"{name}.conv3", width, 4 * width, activation=None, gain=0.5)
            if not block:
                x = make.conv(x, f"{name}.downsample.0", inputs, 4 * width, 1, stride, activation=None)
            x = graph.activation(graph.node("Add", x, y), "relu")
            inputs = 4 * width
    x = graph.node("GlobalAveragePool", x)
    # As a convolution of one pixel, so that the classes are spread like every other channel.
    x = make.conv(x, "fc", inputs, classes, activation=None, gain=3.0, vary=0.1)
    graph.output("logits", graph.node("Flatten", x, axis=1), ["batch", classes])


def _resnet50(folder: Path) -> None:
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    batch = np.stack(pictures(16, 224, 224)).astype(np.float32) / 255
    batch = ((batch - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)
    graph = Graph("resnet50")
    resnet50(Maker(graph, measured(resnet50, batch)))
    graph.save(folder / "model.onnx", {"task": "classify", "description": "ResNet-50 shaped, random weights"})
    _describe(folder, "classification", "resnet", 224, mean, deviation)


def _describe(folder: Path, task: str, architecture: str, size: int, mean: Any, deviation: Any) -> None:
    config = {
        "task": task,
        "architecture": architecture,
        "head": "logits",
        "input": {
            "width": size, "height": size, "resize": "crop", "crop": 0.875, "mean": mean, "std": deviation,
            "layout": "NCHW", "color": "RGB",
        },
        "labels": [f"class{index}" for index in range(1000)],
        "graphs": {"image": "model.onnx"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def vit(graph: Graph, *, size: int = 224, patch: int = 16, width: int = 768, depth: int = 12, heads: int = 12) -> None:
    """Write a vision transformer (ViT-Base): logits [n, 1000]; the names of the weights timm's."""
    rng = np.random.default_rng(0)

    def draw(*shape: int, deviation: float) -> Array:
        return (rng.standard_normal(shape, np.float32) * np.float32(deviation)).astype(np.float32)

    def linear(x: str, name: str, inputs: int, outputs: int, gain: float = 1.0) -> str:
        weight, bias = draw(outputs, inputs, deviation=gain / math.sqrt(inputs)), draw(outputs, deviation=0.02)
        return graph.linear(x, name, weight, bias)

    def norm(x: str, name: str) -> str:
        return graph.layer_norm(x, name, 1 + draw(width, deviation=0.1), draw(width, deviation=0.02), 1e-6)

    x = graph.input("pixel_values", ["batch", 3, size, size])
    weight = draw(width, 3, patch, patch, deviation=1 / math.sqrt(3 * patch**2))
    x = graph.conv(x, "patch_embed.proj", weight, draw(width, deviation=0.02), stride=patch)
    places = (size // patch) ** 2
    x = graph.node("Transpose", graph.node("Reshape", x, graph.shape(0, width, places)), perm=[0, 2, 1])
    # Padded in front by one place, to which the class token is added: no shape has to be known for that.
    x = graph.node("Pad", x, graph.shape(0, 1, 0, 0, 0, 0))
    position = draw(1, places + 1, width, deviation=0.5)
    x = graph.node("Add", x, graph.weight("positions", position))
    for layer in range(depth):
        name = f"blocks.{layer}"
        y = norm(x, f"{name}.norm1")
        q, k, v = (linear(y, f"{name}.attn.{part}", width, width) for part in "qkv")
        y = linear(graph.attend(q, k, v, heads, width // heads), f"{name}.attn.proj", width, width)
        x = graph.node("Add", x, y)
        y = graph.activation(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1", width, 4 * width), "gelu")
        x = graph.node("Add", x, linear(y, f"{name}.mlp.fc2", 4 * width, width))
    x = graph.node("Gather", norm(x, "norm"), graph.constant(np.array(0), np.int32), axis=1)
    graph.output("logits", linear(x, "head", width, 1000, 3.0), ["batch", 1000])


def _vit_base(folder: Path) -> None:
    graph = Graph("vit-base")
    vit(graph)
    graph.save(folder / "model.onnx", {"task": "classify", "description": "ViT-Base/16 shaped, random weights"})
    _describe(folder, "classification", "vit", 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


MODELS: Final[Mapping[str, Callable[[Path], None]]] = {
    "yolov8n": _yolo,
    "yolov8n-96": functools.partial(_yolo, size=96),  # for tests, and a first look
    "yolov8n-seg": functools.partial(_yolo, masks=32),
    "resnet50": _resnet50,
    "vit-base": _vit_base,
}


def model_path(name: str, folder: Path | None = None) -> Path:
    """The folder of a model, made where it is not there yet.

    Args:
        name: one of :data:`MODELS`.
        folder: where the models are kept; the user's cache folder if None.
    """
    target = (folder or cache_dir() / "benchmarks") / f"{name}-{RECIPE}"
    if (target / "model.onnx").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as part:
        made = Path(part) / name
        made.mkdir()
        MODELS[name](made)
        made.rename(target)
    return target


def main() -> None:
    """Make a model and print its folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--folder", type=Path, help="where to keep it; the user's cache folder by default")
    given = parser.parse_args()
    start = time.perf_counter()
    path = model_path(given.model, given.folder)
    size = (path / "model.onnx").stat().st_size / 2**20
    print(f"{size:.1f} MiB, {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(path)


if __name__ == "__main__":
    main()
