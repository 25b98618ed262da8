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
    repeats: int = 16,
) -> Path:
    """YOLOv8's layout [n, 4 + 3 + extra, 4 * repeats], or [n, 4, 6] with ``nms``: boxes for quarters of the input."""
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
        "repeats": np.array([1, 1, repeats], np.int64),
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
        # Each box many times over: real heads have more places than channels, and many boxes for one object.
        nodes.append(helper.make_node("Tile", ["four", "repeats"], ["table" if transposed else "output0"]))
        made = [batch, 7 + extra, 4 * repeats]
        if transposed:
            nodes.append(helper.make_node("Transpose", ["table"], ["output0"], perm=[0, 2, 1]))
            made = [batch, 4 * repeats, 7]
    used = {name for node in nodes for name in node.input}
    constants = {name: array for name, array in constants.items() if name in used}
    return save(path, nodes, {"images": (kind, shape)}, {"output0": made}, constants, metadata=metadata, dtype=kind)


def segmenter(
    path: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    batch: int | str = "batch",
    half: bool = False,
    transposed: bool = False,
    end_to_end: bool = False,
) -> Path:
    """YOLO's layout with masks: [n, 4 + 3 + 3, 64], or [n, 4, 6 + 3] with ``end_to_end``; prototypes [n, 3, 16, 16].

    The boxes are the detector's. A prototype is how far a colour is above one half, and a box's coefficients are the
    means of the colours in it: so a mask is where the box's colour is.
    """
    number = np.float16 if half else np.float32
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    quarter = SIZE // 2
    centres = np.array([[16, 16], [48, 16], [16, 48], [48, 48]], number)
    nodes = [
        helper.make_node("AveragePool", ["images"], ["means"], kernel_shape=[quarter] * 2, strides=[quarter] * 2),
        helper.make_node("Reshape", ["means", "flat"], ["scores"]),
        helper.make_node("AveragePool", ["images"], ["fine"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Sub", ["fine", "half"], ["output1"]),
        helper.make_node("Mul", ["scores", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing", "axis1"], ["zeros"], keepdims=1),
    ]
    constants = {
        "flat": np.array([0, 3, 4], np.int64),
        "zero": np.array(0, number),
        "half": np.array(0.5, number),
        "axis1": np.array([1], np.int64),
        "boxes": np.concatenate([centres.T, np.full((2, 4), quarter - 4, number)])[None],
        "corners": np.concatenate([centres - 14, centres + 14], axis=1)[None].astype(number),
        "repeats": np.array([1, 1, 16], np.int64),
    }
    made: list[int | str] = [batch, 10, 64]
    if end_to_end:
        nodes += [
            helper.make_node("ReduceMax", ["scores"], ["best"], axes=[1], keepdims=1),
            helper.make_node("ArgMax", ["scores"], ["which"], axis=1, keepdims=1),
            helper.make_node("Cast", ["which"], ["class"], to=kind),
            helper.make_node("Concat", ["best", "class", "scores"], ["told"], axis=1),
            helper.make_node("Transpose", ["told"], ["rows"], perm=[0, 2, 1]),
            helper.make_node("Transpose", ["zeros"], ["column"], perm=[0, 2, 1]),
            helper.make_node("Add", ["column", "corners"], ["places"]),
            helper.make_node("Concat", ["places", "rows"], ["output0"], axis=2),
        ]
        made = [batch, 4, 9]
    else:
        nodes += [
            helper.make_node("Add", ["zeros", "boxes"], ["places"]),
            helper.make_node("Concat", ["places", "scores", "scores"], ["four"], axis=1),
            helper.make_node("Tile", ["four", "repeats"], ["table" if transposed else "output0"]),
        ]
        if transposed:
            nodes.append(helper.make_node("Transpose", ["table"], ["output0"], perm=[0, 2, 1]))
            made = [batch, 64, 10]
    used = {name for node in nodes for name in node.input}
    return save(
        path,
        nodes,
        {"images": (kind, [batch, 3, SIZE, SIZE])},
        {"output0": made, "output1": [batch, 3, 16, 16]},
        {name: array for name, array in constants.items() if name in used},
        metadata=metadata,
        dtype=kind,
    )


def lists(path: Path, *, batched: bool = False, counted: bool = False, size: int | str = SIZE) -> Path:
    """A detector whose boxes, labels and scores are outputs of their own, for quarters as :func:`detector` has them.

    As torchvision exports Faster R-CNN: input [3, h, w], boxes [k, 4], labels [k] and scores [k] of one image; with
    ``batched`` [n, k, 4], [n, k] and [n, k]; with ``counted`` as TensorRT's EfficientNMS_TRT gives them, with how many
    count [n, 1] before and classes last. Two of the four boxes count then.
    """
    quarter = SIZE // 2
    corners = np.array([[2, 2, 30, 30], [34, 2, 62, 30], [2, 34, 30, 62], [34, 34, 62, 62]], np.float32)
    many = batched or counted
    shape: list[int | str] = ["batch", 3, size, size] if many else [3, size, size]
    nodes = [] if many else [helper.make_node("Unsqueeze", ["images", "axis0"], ["four"])]
    nodes += [
        helper.make_node(
            "AveragePool", ["images" if many else "four"], ["means"], kernel_shape=[quarter] * 2, strides=[quarter] * 2
        ),
        helper.make_node("Reshape", ["means", "flat"], ["each"]),
        helper.make_node("ReduceMax", ["each"], ["top"], axes=[1], keepdims=0),
        helper.make_node("ArgMax", ["each"], ["kinds"], axis=1, keepdims=0),
        helper.make_node("Mul", ["each", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing", "axis1"], ["zeros"], keepdims=1),
        helper.make_node("Transpose", ["zeros"], ["column"], perm=[0, 2, 1]),
        helper.make_node("Add", ["column", "corners"], ["places"]),
    ]
    outputs: dict[str, tuple[int, list[int | str]]] = {}
    whole = {"boxes": "places", "labels": "kinds", "scores": "top"}
    if counted:
        nodes += [
            helper.make_node("Cast", ["kinds"], ["det_classes"], to=TensorProto.INT32),
            helper.make_node("ReduceMin", ["column"], ["least"], axes=[1, 2], keepdims=0),
            helper.make_node("Unsqueeze", ["least", "axis1"], ["ones"]),
            helper.make_node("Add", ["ones", "two"], ["number"]),
            helper.make_node("Cast", ["number"], ["num_dets"], to=TensorProto.INT32),
            helper.make_node("Identity", ["places"], ["det_boxes"]),
            helper.make_node("Identity", ["top"], ["det_scores"]),
        ]
        outputs = {
            "num_dets": (TensorProto.INT32, ["batch", 1]),
            "det_boxes": (TensorProto.FLOAT, ["batch", 4, 4]),
            "det_scores": (TensorProto.FLOAT, ["batch", 4]),
            "det_classes": (TensorProto.INT32, ["batch", 4]),
        }
    else:
        for name, source in whole.items():
            kind = TensorProto.INT64 if name == "labels" else TensorProto.FLOAT
            tail: list[int | str] = [4] if name == "boxes" else []
            if batched:
                nodes.append(helper.make_node("Identity", [source], [name]))
            else:
                nodes.append(helper.make_node("Squeeze", [source, "axis0"], [name]))
            outputs[name] = (kind, ["batch", 4, *tail] if batched else [4, *tail])
    constants = {
        "flat": np.array([0, 3, 4], np.int64),
        "zero": np.array(0, np.float32),
        "two": np.array(2, np.float32),
        "axis0": np.array([0], np.int64),
        "axis1": np.array([1], np.int64),
        "corners": corners[None],
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "lists",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, sizes) for name, (kind, sizes) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


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


def growing(path: Path) -> Path:
    """[n, t, 4] past and [n, 1, 4] new in; [n, t + 1, 4] present and its sum out: the shape of a decoder's step."""
    nodes = [
        helper.make_node("Concat", ["past", "new"], ["present"], axis=1),
        helper.make_node("ReduceSum", ["present", "axes"], ["total"], keepdims=0),
    ]
    return save(
        path, nodes,
        {"past": (TensorProto.FLOAT, ["n", "t", 4]), "new": (TensorProto.FLOAT, ["n", 1, 4])},
        {"present": ["n", "t1", 4], "total": ["n", 4]}, {"axes": np.array([1], np.int64)},
    )  # fmt: skip


def finding(path: Path) -> Path:
    """[n, 4] in, the places of what is not zero out: how many there are, only the run tells."""
    return save(
        path, [helper.make_node("NonZero", ["x"], ["places"])],
        {"x": (TensorProto.FLOAT, ["n", 4])}, {"places": [2, "found"]}, {}, dtype=TensorProto.INT64,
    )  # fmt: skip
