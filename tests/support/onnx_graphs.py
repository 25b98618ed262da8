"""Hand-made ONNX graphs that really see: what they answer follows from the colours in the image.

The detector reports one box for each quarter of its input whose mean is high in the red, green or blue channel; the
classifier and the embedder look at the mean colour of the whole. Their answers can be worked out by hand.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COLOURS = ("red", "green", "blue")
#: Pixels on each side of the inputs.
SIZE = 64


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[int | str]]],
    outputs: Mapping[str, list[int | str]],
    constants: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Write a graph: nodes, inputs with type and shape, outputs with shape, constants by name."""
    graph = helper.make_graph(
        nodes,
        "hand_made",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def detector(
    path: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    batch: int | str = "batch",
    half: bool = False,
    transposed: bool = False,
    extra: int = 0,
    nms: bool = False,
    channels_last: bool = False,
) -> Path:
    """YOLOv8's layout [n, 4 + 3 + extra, 64], or [n, 4, 6] with ``nms``: boxes for each quarter of a 64 x 64 input."""
    number = np.float16 if half else np.float32
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    quarter = SIZE // 2
    centres = np.array([[16, 16], [48, 16], [16, 48], [48, 48]], number)
    boxes = np.concatenate([centres.T, np.full((2, 4), quarter - 4, number)])[None]
    corners = np.concatenate([centres - 14, centres + 14], axis=1)[None].astype(number)
    shape: list[int | str] = [batch, SIZE, SIZE, 3] if channels_last else [batch, 3, SIZE, SIZE]
    nodes = [helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2])] if channels_last else []
    image = "nchw" if channels_last else "images"
    nodes += [
        helper.make_node(
            "AveragePool", [image], ["means"], kernel_shape=[quarter, quarter], strides=[quarter, quarter]
        ),
        helper.make_node("Reshape", ["means", "flat"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing", "axis1"], ["zeros"], keepdims=1),
    ]
    constants = {
        "flat": np.array([0, 3, 4], np.int64),
        "zero": np.array(0, number),
        "axis1": np.array([1], np.int64),
        "boxes": boxes,
        "corners": corners,
        "repeats": np.array([1, 1, 16], np.int64),
    }
    if nms:
        nodes += [
            helper.make_node("ReduceMax", ["scores"], ["best"], axes=[1], keepdims=1),
            helper.make_node("ArgMax", ["scores"], ["which"], axis=1, keepdims=1),
            helper.make_node("Cast", ["which"], ["class"], to=kind),
            helper.make_node("Concat", ["best", "class"], ["told"], axis=1),
            helper.make_node("Transpose", ["told"], ["rows"], perm=[0, 2, 1]),
            helper.make_node("Transpose", ["zeros"], ["column"], perm=[0, 2, 1]),
            helper.make_node("Add", ["column", "corners"], ["places"]),
            helper.make_node("Concat", ["places", "rows"], ["output0"], axis=2),
        ]
        made: list[int | str] = [batch, 4, 6]
    else:
        nodes.append(helper.make_node("Add", ["zeros", "boxes"], ["places"]))
        nodes.append(helper.make_node("Concat", ["places", "scores", *["zeros"] * extra], ["four"], axis=1))
        # Each box sixteen times over: real heads have more places than channels, and many boxes for one object.
        nodes.append(helper.make_node("Tile", ["four", "repeats"], ["table" if transposed else "output0"]))
        made = [batch, 7 + extra, 64]
        if transposed:
            nodes.append(helper.make_node("Transpose", ["table"], ["output0"], perm=[0, 2, 1]))
            made = [batch, 64, 7]
    used = {name for node in nodes for name in node.input}
    constants = {name: array for name, array in constants.items() if name in used}
    return save(path, nodes, {"images": (kind, shape)}, {"output0": made}, constants, metadata=metadata, dtype=kind)


def colour_meter(
    path: Path,
    *,
    output: str = "logits",
    name: str = "pixel_values",
    scale: float = 10.0,
    softmax: bool = False,
    size: int | str = SIZE,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """[n, 3]: the mean of each channel, times ``scale``: a classifier of colours, or an image encoder."""
    nodes = [
        helper.make_node("GlobalAveragePool", [name], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"], axis=1),
        helper.make_node("Mul", ["flat", "scale"], ["scaled" if softmax else output]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scaled"], [output], axis=1))
    return save(
        path,
        nodes,
        {name: (TensorProto.FLOAT, ["batch", 3, size, size])},
        {output: ["batch", 3]},
        {"scale": np.array(scale, np.float32)},
        metadata=metadata,
    )


def word_meter(path: Path, vectors: np.ndarray, *, mask: bool = True, length: int | str = "length") -> Path:
    """[n, 3]: the sum of the vectors of the tokens; without a mask every token counts."""
    nodes = [helper.make_node("Gather", ["vectors", "input_ids"], ["each"], axis=0)]
    inputs = {"input_ids": (TensorProto.INT64, ["batch", length])}
    last = "each"
    if mask:
        inputs["attention_mask"] = (TensorProto.INT64, ["batch", length])
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["weights", "axis2"], ["column"]),
            helper.make_node("Mul", ["each", "column"], ["kept"]),
        ]
        last = "kept"
    nodes.append(helper.make_node("ReduceSum", [last, "axis1"], ["text_embeds"], keepdims=0))
    constants = {
        "vectors": vectors.astype(np.float32),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
    }
    used = {name for node in nodes for name in node.input}
    return save(
        path,
        nodes,
        inputs,
        {"text_embeds": ["batch", 3]},
        {name: constants[name] for name in constants if name in used},
    )


def word_tokenizer(path: Path) -> Path:
    """A tokenizer.json of a few words, with marks for start, end and padding as CLIP's has."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["<pad>", "<unk>", "<start>", "<end>", *COLOURS, "a", "square", "two", "circles"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    tokenizer.add_special_tokens(words[:4])
    tokenizer.save(str(path))
    return path


#: A vector for each word of :func:`word_tokenizer`: colours lie on their channel, the rest is nothing.
WORD_VECTORS = np.concatenate([np.zeros((4, 3)), np.eye(3), np.zeros((4, 3))])


def scene(
    *, top_left: str | None = None, bottom_right: str | None = None, width: int = 64, height: int = 64
) -> np.ndarray:
    """uint8 [height, width, 3], black, with a coloured quarter or two."""
    pixels = np.zeros((height, width, 3), np.uint8)
    if top_left:
        pixels[: height // 2, : width // 2, COLOURS.index(top_left)] = 255
    if bottom_right:
        pixels[height // 2 :, width // 2 :, COLOURS.index(bottom_right)] = 255
    return pixels
