"""Every operator that is converted gives what ONNX Runtime gives.

Operators of one kind share a graph, in which each has an output of its own: a package is made, saved and read again for
each kind, not for each operator.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator
from llama_pajamas_run_coreml.export.convert import Conversion, Input, program
from llama_pajamas_run_coreml.export.graph import read_graph
from llama_pajamas_run_coreml.export.ops import CONVERTERS
from llama_pajamas_run_coreml.export.package import save, to_model

_RANDOM = np.random.default_rng(7)
F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741
Case = tuple[str, Sequence[Any], dict[str, Any]]
#: Operators that were tried, to see that none is left out.
TRIED: set[str] = set()


def random(*shape: int) -> np.ndarray:
    return _RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def compare(
    folder: Path,
    feeds: Mapping[str, np.ndarray],
    cases: Sequence[Case],
    *,
    opset: int = 17,
    flexible: bool = True,
    tolerance: float = 2e-5,
) -> None:
    """Convert a graph in which each case is a node, or several in a row, with inputs by name or as constants."""
    nodes, constants, outputs, makers = [], [], [], {}
    for index, (op, inputs, attributes) in enumerate(cases):
        TRIED.add(op)
        names = []
        for place, given in enumerate(inputs):
            if isinstance(given, np.ndarray):
                constants.append(numpy_helper.from_array(given, f"c{index}_{place}"))
                given = f"c{index}_{place}"
            names.append(given or "")
        attributes = dict(attributes)
        results = [f"y{index}"] if "results" not in attributes else list(attributes.pop("results"))
        hidden = attributes.pop("hidden", False)
        nodes.append(helper.make_node(op, names, results, name=f"n{index}", **attributes))
        outputs += [] if hidden else results
        makers |= dict.fromkeys(results, op)
    batch = "n" if flexible else None
    graph = helper.make_graph(
        nodes,
        "cases",
        [
            helper.make_tensor_value_info(name, _kind(value), [batch or value.shape[0], *value.shape[1:]])
            for name, value in feeds.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "cases.onnx"
    onnx.save(model, path)
    expected = _reference(path, feeds, outputs)
    actual = converted(path, feeds, flexible=flexible)
    for name in outputs:
        np.testing.assert_allclose(
            actual[name].astype(np.float64),
            expected[name].astype(np.float64),
            rtol=tolerance,
            atol=tolerance,
            err_msg=f"{name} of {makers[name]}",
        )
        # Core ML has no output without an axis.
        assert actual[name].shape == (expected[name].shape or (1,)), f"{name} of {makers[name]}"


def _kind(value: np.ndarray) -> int:
    return helper.np_dtype_to_tensor_dtype(value.dtype)


def _reference(path: Path, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(list(outputs), dict(feeds)), strict=True))


def converted(path: Path, feeds: Mapping[str, np.ndarray], *, flexible: bool = True) -> dict[str, np.ndarray]:
    """What the package that a graph becomes makes of inputs."""
    graph = read_graph(path)
    inputs = []
    for name, value in feeds.items():
        shape = (1 if flexible else value.shape[0], *value.shape[1:])
        dtype = "fp32" if value.dtype.kind == "f" else "int32"
        inputs.append(Input(name, shape, dtype, flexible=0 if flexible else None, sizes=(1, 4), ranged=True))
    made, declared = program(inputs, "ios17", lambda given, sizes: Conversion(graph, sizes, given).run())
    package = save(to_model(made, declared, "ios17", "float32"), path.with_suffix(".mlpackage"))
    return Evaluator(package).predict(
        {name: value.astype(np.int32) if value.dtype.kind == "i" else value for name, value in feeds.items()}
    )


def test_arithmetic(tmp_path):
    x, z = random(2, 3, 4), np.abs(random(2, 3, 4)) + 0.5
    cases: list[Case] = [
        *((op, ["x"], {}) for op in ("Abs", "Ceil", "Floor", "Neg", "Sign", "Sin", "Cos", "Tanh", "Erf", "Exp")),
        *((op, ["z"], {}) for op in ("Sqrt", "Log", "Reciprocal", "Identity", "Round", "Atan", "Sinh", "Cosh")),
        *((op, ["h"], {}) for op in ("Asin", "Acos", "Atanh", "Tan")),
        *((op, ["x", "z"], {}) for op in ("Add", "Sub", "Mul", "Div", "Sum", "Min", "Max", "Mean")),
        ("Add", ["x", random(4)], {}),
        ("Mul", [np.array(2.5, np.float32), "x"], {}),
        ("Sum", ["x", "z", random(3, 1)], {}),
        ("Pow", ["z", np.array(2.5, np.float32)], {}),
        ("Clip", ["x", np.array(-0.5, np.float32), np.array(0.5, np.float32)], {}),
        ("Clip", ["x", "", np.array(0.5, np.float32)], {}),
        ("Div", ["i", ints(3)], {}),
        ("Div", ["n", ints(3)], {}),
        ("Div", ["n", ints(-4)], {}),
        ("Mod", ["i", ints(5)], {}),
        ("Neg", ["i"], {}),
    ]
    whole = {"i": _RANDOM.integers(0, 50, (2, 3)), "n": _RANDOM.integers(-50, 50, (2, 9))}
    compare(tmp_path, {"x": x, "z": z, "h": np.tanh(x) * 0.9, **whole}, cases)


def test_choices(tmp_path):
    x, y = random(2, 3, 4), random(2, 3, 4)
    cases: list[Case] = [
        *(
            (op, ["x", "y"], {"results": [f"b{op}"], "hidden": True})
            for op in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual")
        ),
        ("Equal", ["i", ints(2)], {"results": ["bEqual"], "hidden": True}),
        ("And", ["bLess", "bEqual"], {"results": ["bAnd"], "hidden": True}),
        ("Or", ["bGreater", "bEqual"], {"results": ["bOr"], "hidden": True}),
        ("Xor", ["bLess", "bEqual"], {"results": ["bXor"], "hidden": True}),
        ("Not", ["bLess"], {"results": ["bNot"], "hidden": True}),
        *(("Cast", [f"b{name}"], {"to": F}) for name in ("Less", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor")),
        ("Where", ["bGreater", "x", "y"], {}),
        ("Where", ["bNot", "x", np.array(-1e4, np.float32)], {}),
        ("Where", ["bEqual", np.array(0, np.float32), np.array(-1, np.float32)], {}),
        ("Where", ["bEqual", "x", random(2, 1, 4)[:1]], {}),
        ("Cast", ["x"], {"to": TensorProto.INT32}),
        ("Cast", ["i"], {"to": F}),
        ("CastLike", ["i", "x"], {}),
        ("CastLike", ["i", "bLess"], {"results": ["bLike"], "hidden": True}),
        ("Cast", ["bLike"], {"to": F}),
    ]
    compare(tmp_path, {"x": x, "y": y, "i": _RANDOM.integers(0, 4, (2, 1, 4))}, cases)


def test_activations(tmp_path):
    cases: list[Case] = [
        *((op, ["x"], {}) for op in (
            "Relu", "Sigmoid", "Softplus", "Softsign", "LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish",
            "Mish", "Dropout", "Softmax", "LogSoftmax")),
        ("HardSigmoid", ["x"], {"alpha": 1 / 6, "beta": 0.5}),
        ("Elu", ["x"], {"alpha": 0.7}),
        ("PRelu", ["x", random(3, 1)], {}),
        ("Softmax", ["x"], {"axis": 1}),
        ("Sigmoid", ["x"], {"results": ["gate"], "hidden": True}),
        ("Mul", ["gate", "x"], {}),
        ("LogSoftmax", ["x"], {"axis": 1}),
    ]  # fmt: skip
    compare(tmp_path, {"x": random(2, 3, 4)}, cases, opset=18)


def test_newer_activations(tmp_path):
    cases: list[Case] = [
        ("Gelu", ["x"], {}),
        ("Gelu", ["x"], {"approximate": "tanh"}),
        ("ReduceSum", ["x", ints(1)], {"keepdims": 0}),
        ("ReduceMax", ["x", ints(-1)], {}),
    ]
    compare(tmp_path, {"x": random(2, 3, 4)}, cases, opset=20)


def test_softmax_before_version_13_spans_axes(tmp_path):
    compare(tmp_path, {"x": random(2, 3, 4)}, [("Softmax", ["x"], {"axis": 1}), ("Softmax", ["x"], {})], opset=11)


def test_reductions(tmp_path):
    names = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "LogSum")
    cases: list[Case] = [
        *((f"Reduce{name}", ["z"], {"axes": [1]} if name != "Sum" else {"keepdims": 0}) for name in names),
        ("ReduceSum", ["z", ints(1, -1)], {"keepdims": 0}),
        ("ReduceSum", ["z"], {"noop_with_empty_axes": 1}),
        ("ReduceMean", ["z"], {"axes": [-1], "keepdims": 0}),
        ("ArgMax", ["z"], {"axis": 1, "keepdims": 0}),
        ("ArgMin", ["z"], {"axis": -1}),
        ("CumSum", ["z", np.array(1, np.int64)], {}),
        ("CumSum", ["z", np.array(-1, np.int64)], {"exclusive": 1, "reverse": 1}),
    ]
    compare(tmp_path, {"z": np.abs(random(2, 3, 4)) + 0.1}, cases)


def test_shapes(tmp_path):
    x = random(2, 6, 4)
    cases: list[Case] = [
        ("Reshape", ["x", ints(0, 3, -1)], {}),
        ("Reshape", ["x", ints(-1, 8)], {}),
        ("Flatten", ["x"], {}),
        ("Flatten", ["x"], {"axis": -1}),
        ("Transpose", ["x"], {"perm": [0, 2, 1]}),
        ("Transpose", ["x"], {}),
        ("Unsqueeze", ["x", ints(1, -1)], {"results": ["wide"], "hidden": True}),
        ("Squeeze", ["wide", ints(1, 4)], {}),
        ("Concat", ["x", "x", random(1, 6, 4)], {"axis": 0, "results": ["tall"], "hidden": True}),
        ("Concat", ["x", "x"], {"axis": -1}),
        ("Concat", ["tall", "x"], {"axis": 0}),
        ("Split", ["x", ints(1, 2, 3)], {"axis": 1, "results": ["s0", "s1", "s2"]}),
        ("Split", ["x"], {"axis": -1, "results": ["t0", "t1"]}),
        ("Slice", ["x", ints(1), ints(5), ints(1), ints(2)], {}),
        ("Slice", ["x", ints(-3, 0), ints(2**62, -1), ints(1, 2)], {}),
        ("Slice", ["x", ints(-1), ints(-(2**62)), ints(2), ints(-1)], {}),
        ("Slice", ["x", ints(4), ints(1), ints(1), ints(-2)], {}),
        ("Expand", ["row", ints(2, 6, 4)], {}),
        ("Tile", ["x", ints(1, 2, 3)], {}),
        ("Pad", ["x", ints(0, 1, 2, 0, 0, 3), np.array(1.5, np.float32)], {}),
        ("Pad", ["x", ints(0, 1, 2, 0, 0, 1)], {"mode": "reflect"}),
        ("Pad", ["x", ints(0, 1, 2, 0, 0, 1)], {"mode": "edge"}),
        ("Pad", ["x", ints(0, -1, 0, 0, -2, 1)], {}),
    ]
    compare(tmp_path, {"x": x, "row": random(2, 1, 4)}, cases)


def test_shapes_of_the_input_itself(tmp_path):
    """What exporters write around a free number of images: its size is read, counted with and given back."""
    head = [
        ("Shape", ["x"], {"results": ["shape"], "hidden": True}),
        ("Gather", ["shape", np.array(0, np.int64)], {"results": ["count"], "hidden": True}),
        ("Unsqueeze", ["count", ints(0)], {"results": ["counts"], "hidden": True}),
    ]
    cases: list[Case] = [
        *head,
        ("Concat", ["counts", ints(3, 8)], {"axis": 0, "results": ["wanted"], "hidden": True}),
        ("Reshape", ["x", "wanted"], {}),
        ("Concat", ["counts", ints(1, 4)], {"axis": 0, "results": ["rows"], "hidden": True}),
        ("Expand", [random(1, 1, 4), "rows"], {"results": ["token"], "hidden": True}),
        ("Concat", ["token", "x"], {"axis": 1}),
        ("ConstantOfShape", ["rows"], {"value": helper.make_tensor("v", F, [1], [2.0])}),
        ("Mul", ["count", np.array(6, np.int64)], {"results": ["all"], "hidden": True}),
        ("Div", ["all", np.array(3, np.int64)], {"results": ["twice"], "hidden": True}),
        ("Unsqueeze", ["twice", ints(0)], {"results": ["twices"], "hidden": True}),
        ("Concat", ["twices", ints(-1)], {"axis": 0, "results": ["halves"], "hidden": True}),
        ("Reshape", ["x", "halves"], {}),
        ("Equal", ["wanted", ints(-1)], {"results": ["free"], "hidden": True}),
        ("Where", ["free", ints(1, 1, 1), "wanted"], {"results": ["chosen"], "hidden": True}),
        ("Reshape", ["x", "chosen"], {}),
        ("Range", [np.array(0, np.int64), "count", np.array(1, np.int64)], {"results": ["each"], "hidden": True}),
        ("Unsqueeze", ["each", ints(1)], {"results": ["which"], "hidden": True}),
        ("Concat", ["which", "i"], {"axis": 1, "results": ["places"], "hidden": True}),
        ("GatherND", ["x", "places"], {}),
        ("Size", ["x"], {"results": ["size"], "hidden": True}),
        ("Cast", ["size"], {"to": F, "results": ["sizes"], "hidden": True}),
        ("Div", ["x", "sizes"], {}),
    ]
    compare(tmp_path, {"x": random(2, 6, 4), "i": np.array([[3], [5]])}, cases)


def test_picking(tmp_path):
    x = random(2, 5, 4)
    cases: list[Case] = [
        ("Gather", ["x", np.array(-2, np.int64)], {"axis": 1}),
        ("Gather", ["x", ints(3, 0, -1)], {"axis": 1}),
        ("Gather", [random(9, 3), "i"], {}),
        ("GatherElements", ["x", "e"], {"axis": 1}),
        ("GatherElements", ["x", np.array([[[0, -1, 2, 1]]] * 2)], {"axis": 1}),
        ("GatherND", ["x", np.array([[0, 1], [1, 4]])], {}),
        ("ScatterND", ["x", np.array([[0, 1], [1, 4]]), random(2, 4)], {}),
        ("ScatterElements", ["x", np.array([[[0, 1, 2, 1]]] * 2), random(2, 1, 4)], {"axis": 1}),
        ("TopK", ["x", ints(3)], {"axis": 1, "results": ["values", "places"]}),
        ("TopK", ["x", ints(2)], {"largest": 0, "results": ["least", "where"]}),
        ("OneHot", ["i", np.array(9, np.int64), np.array([0.5, 2], np.float32)], {}),
        ("Trilu", ["x"], {"upper": 0}),
        ("Trilu", ["x", np.array(1, np.int64)], {}),
    ]
    feeds = {"x": x, "i": _RANDOM.integers(0, 9, (2, 3)), "e": _RANDOM.integers(0, 5, (2, 2, 4))}
    compare(tmp_path, feeds, cases, flexible=False)


def test_products(tmp_path):
    cases: list[Case] = [
        ("MatMul", ["x", random(4, 5)], {}),
        ("MatMul", ["x", "y"], {}),
        ("MatMul", ["x", random(4)], {}),
        ("MatMul", [random(5, 3), "x"], {}),
        ("MatMul", ["four", random(4, 3)], {}),
        ("Gemm", ["flat", random(4, 5), random(5)], {}),
        ("Gemm", ["flat", random(5, 4), random(1, 5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ("Gemm", ["flat", random(5, 4)], {"transB": 1}),
        ("Gemm", ["flat", "flat", random(2, 2)], {"transB": 1, "beta": 3.0}),
        ("Einsum", ["x", "y"], {"equation": "bij,bjk->bik"}),
        ("Einsum", ["x", "z"], {"equation": "bid,bjd->bij"}),
        ("Einsum", ["four", "four"], {"equation": "bhid, bhjd -> bhij"}),
        ("Einsum", ["four", random(3, 4, 6)], {"equation": "bhid,hdk->bik"}),
    ]
    feeds = {"x": random(2, 3, 4), "y": random(2, 4, 5), "z": random(2, 6, 4), "four": random(2, 3, 5, 4)}
    compare(tmp_path, feeds | {"flat": random(2, 4)}, cases)


def test_convolutions(tmp_path):
    weight = random(6, 4, 3, 3)
    cases: list[Case] = [
        ("Conv", ["x", weight, random(6)], {"pads": [1, 1, 1, 1]}),
        ("Conv", ["x", weight], {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
        ("Conv", ["x", weight], {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        ("Conv", ["x", random(4, 1, 3, 3), random(4)], {"group": 4, "strides": [2, 2]}),
        ("Conv", ["x", weight], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Conv", ["x", weight], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        ("Conv", ["x", weight], {"auto_pad": "VALID"}),
        ("Conv", ["line", random(5, 4, 3), random(5)], {"pads": [1, 1]}),
        ("ConvTranspose", ["x", random(4, 6, 2, 2), random(6)], {"strides": [2, 2]}),
        ("ConvTranspose", ["x", random(4, 6, 3, 3)], {
            "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ("ConvTranspose", ["x", random(4, 3, 3, 3), random(6)], {"strides": [2, 2], "group": 2, "dilations": [2, 2]}),
        ("ConvTranspose", ["x", random(4, 6, 2, 2), random(6)], {"strides": [3, 3], "output_padding": [1, 1]}),
        ("ConvTranspose", ["x", random(4, 6, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("ConvTranspose", ["line", random(4, 5, 4)], {"strides": [2], "pads": [1, 1]}),
    ]  # fmt: skip
    compare(tmp_path, {"x": random(2, 4, 8, 7), "line": random(2, 4, 9)}, cases, tolerance=1e-4)


def test_pools(tmp_path):
    pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
    cases: list[Case] = [
        ("MaxPool", ["x"], {**pool, "pads": [1, 1, 1, 1]}),
        ("MaxPool", ["x"], {**pool, "ceil_mode": 1}),
        ("MaxPool", ["x"], {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}),
        ("MaxPool", ["x"], {**pool, "auto_pad": "SAME_UPPER"}),
        ("AveragePool", ["x"], {**pool, "pads": [1, 1, 1, 1]}),
        ("AveragePool", ["x"], {**pool, "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("AveragePool", ["x"], {**pool, "ceil_mode": 1}),
        ("GlobalAveragePool", ["x"], {}),
        ("GlobalMaxPool", ["x"], {}),
        ("GlobalLpPool", ["x"], {}),
    ]
    compare(tmp_path, {"x": random(2, 4, 8, 7)}, cases)


def test_normalizations(tmp_path):
    four, positive = random(4), np.abs(random(4)) + 0.5
    cases: list[Case] = [
        ("BatchNormalization", ["x", four, random(4), random(4), positive], {"epsilon": 1e-3}),
        ("BatchNormalization", ["flat", four, random(4), random(4), positive], {}),
        ("InstanceNormalization", ["x", four, random(4)], {}),
        ("LayerNormalization", ["x", random(7), random(7)], {}),
        ("LayerNormalization", ["x", random(8, 7)], {"axis": -2, "epsilon": 1e-6}),
        ("LpNormalization", ["x"], {"axis": 1}),
        ("LpNormalization", ["x"], {"axis": -1, "p": 1}),
        ("LRN", ["x"], {"size": 3}),
    ]
    compare(tmp_path, {"x": random(2, 4, 8, 7), "flat": random(2, 4)}, cases, tolerance=1e-4)


def test_groups_of_channels(tmp_path):
    cases: list[Case] = [("GroupNormalization", ["x", random(4), random(4)], {"num_groups": 2})]
    compare(tmp_path, {"x": random(2, 4, 3, 5)}, cases, opset=21, tolerance=1e-4)


def test_resizing(tmp_path):
    x = random(2, 3, 6, 5)
    both = np.array([1, 1, 2, 2], np.float32)
    some = np.array([1, 1, 1.5, 0.8], np.float32)
    to = ints(2, 3, 9, 4)
    cases: list[Case] = [
        ("Resize", ["x", "", both], {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        ("Resize", ["x", "", both], {}),
        ("Resize", ["x", "", some], {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        ("Resize", ["x", "", "", to], {}),
        ("Resize", ["x", "", both], {"mode": "linear"}),
        ("Resize", ["x", "", "", to], {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
        ("Resize", ["x", "", "", to], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        ("Resize", ["x", "", some], {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}),
        ("Resize", ["x", "", some], {"mode": "linear"}),
        ("Resize", ["x", "", both], {"mode": "cubic"}),
        ("Resize", ["x", "", "", to], {"mode": "cubic", "coordinate_transformation_mode": "align_corners"}),
        ("DepthToSpace", ["d"], {"blocksize": 2}),
        ("DepthToSpace", ["d"], {"blocksize": 2, "mode": "CRD"}),
        ("SpaceToDepth", ["d"], {"blocksize": 2}),
    ]
    compare(tmp_path, {"x": x, "d": random(2, 8, 4, 6)}, cases, flexible=False, tolerance=1e-4)


def test_nearest_neighbours_of_every_kind(tmp_path):
    """Whole factors too: not every way to count places repeats each of them."""
    ways = itertools.product(
        ("asymmetric", "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners"),
        ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
        (np.array([1, 1, 2, 3], np.float32), np.array([1, 1, 4, 1], np.float32)),
    )
    cases: list[Case] = [
        ("Resize", ["x", "", scales], {"coordinate_transformation_mode": where, "nearest_mode": rounding})
        for where, rounding, scales in ways
    ]
    compare(tmp_path, {"x": random(2, 3, 4, 5)}, cases, flexible=False, opset=19)


def test_upsample_of_old_graphs(tmp_path):
    cases: list[Case] = [
        ("Upsample", ["x", np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
        ("Slice", ["x"], {"starts": [1], "ends": [3], "axes": [1]}),
    ]
    compare(tmp_path, {"x": random(2, 3, 6, 5)}, cases, opset=9)


def test_a_branch_that_is_known_is_taken(tmp_path):
    def branch(name: str, op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["x"], [name])
        return helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info(name)])

    cases: list[Case] = [
        ("Shape", ["x"], {"results": ["shape"], "hidden": True}),
        ("Gather", ["shape", np.array(1, np.int64)], {"results": ["channels"], "hidden": True}),
        ("Equal", ["channels", np.array(3, np.int64)], {"results": ["three"], "hidden": True}),
        ("If", ["three"], {"then_branch": branch("then", "Relu"), "else_branch": branch("other", "Neg")}),
    ]
    compare(tmp_path, {"x": random(2, 3, 4)}, cases)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Bernoulli", ["x"], {}, "node n0 .*operator Bernoulli is not known"),
        ("NonMaxSuppression", ["x", "x"], {}, "NonMaxSuppression is not known.*without suppression of doubles"),
        ("RandomNormalLike", ["x"], {}, "RandomNormalLike is not known.*ONNX Runtime"),
        ("MaxPool", ["x"], {"kernel_shape": [2], "dilations": [2]}, r"node n0 \(MaxPool\).*dilated"),
        ("Mod", ["x", "x"], {"fmod": 1}, r"n0 \(Mod\)"),
        ("Reshape", ["x", ints(0, 1, 1, 1, 1, 12)], {}, "at most 5 axes"),
        ("Einsum", ["x", "x"], {"equation": "bii,bjk->b"}, "bii,bjk->b"),
        ("Pad", ["x", ints(0, 1, 0, 0, 1, 0)], {"mode": "wrap"}, "wrap"),
        ("Conv", ["x", "x"], {}, "weights is known only when the model runs"),
        ("BatchNormalization", ["x", *[np.ones(3, np.float32)] * 4], {"training_mode": 1}, "is being trained"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path, op, inputs, attributes, message):
    constants = [numpy_helper.from_array(one, f"c{i}") for i, one in enumerate(inputs) if isinstance(one, np.ndarray)]
    names = [f"c{index}" if isinstance(one, np.ndarray) else one for index, one in enumerate(inputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], name="n0", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", F, ["n", 3, 4])],
        [helper.make_empty_tensor_value_info("y")],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.save(model, tmp_path / "one.onnx")

    with pytest.raises(Unsupported, match=message):
        converted(tmp_path / "one.onnx", {"x": random(2, 3, 4)})


def test_every_operator_was_tried():
    """Runs last; the newest operators are unknown to ONNX Runtime, or are refused."""
    if not TRIED:
        pytest.skip("the other tests of this file were not run")
    untried = set(CONVERTERS) - TRIED
    assert untried <= {"Hardmax", "IsNaN", "LpPool", "RMSNormalization", "SimplifiedLayerNormalization", "Swish"}
