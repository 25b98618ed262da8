"""Small Core ML packages, built operation by operation, and the same operations in ONNX Runtime to compare with."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from llama_pajamas_run_coreml._sdk import coremltools
from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator

ct = coremltools()


def builder() -> Any:
    """MIL's builder."""
    from coremltools.converters.mil import Builder

    return Builder


def save(program: Any, path: Path, *, target: Any = None, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a program as a package, with no operation folded or fused.

    Args:
        program: of MIL's builder.
        path: ending in .mlpackage.
        target: the deployment target; iOS 18 where it is None.
        metadata: user-defined metadata.
    """
    with warnings.catch_warnings():  # coremltools leaves temporary folders to the garbage collector
        warnings.simplefilter("ignore")
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=target or ct.target.iOS18,
            skip_model_load=True,
            pass_pipeline=ct.PassPipeline.EMPTY,
        )
        model.user_defined_metadata.update(metadata or {})
        model.save(str(path))
        del model
    return path


def program(
    inputs: Mapping[str, np.ndarray], build: Callable[..., Any], *, target: Any = None, halves: bool = False
) -> Any:
    """A program of MIL's builder.

    Args:
        inputs: an example for each input.
        build: called with a variable for each input; gives one or several.
        target: the opset.
        halves: whether float inputs are in half precision.
    """
    from coremltools.converters.mil.mil import types

    mb = builder()
    kinds = {np.dtype(np.int32): types.int32, np.dtype(np.bool_): types.bool}
    specs = [
        mb.TensorSpec(shape=value.shape, dtype=kinds.get(value.dtype, types.fp16 if halves else types.fp32))
        for value in inputs.values()
    ]
    names = list(inputs)

    def body(*values: Any) -> Any:
        return build(**dict(zip(names, values, strict=True)))

    # MIL's builder names inputs after the function's parameters.
    scope: dict[str, Any] = {"body": body}
    exec(f"def made({', '.join(names)}): return body({', '.join(names)})", scope)
    return mb.program(input_specs=specs, opset_version=target or ct.target.iOS18)(scope["made"])


def evaluated(
    folder: Path,
    inputs: Mapping[str, np.ndarray],
    build: Callable[..., Any],
    *,
    target: Any = None,
    halves: bool = False,
) -> list[np.ndarray]:
    """What the reference evaluator makes of a program, in the order of its outputs."""
    made = program(inputs, build, target=target, halves=halves)
    path = save(made, folder / f"m{len(list(folder.iterdir()))}.mlpackage", target=target)
    evaluator = Evaluator(path)
    outputs = evaluator.predict(inputs)
    return [outputs[one.name] for one in evaluator.interface.outputs]


def in_onnx(
    kind: str, inputs: Sequence[np.ndarray | None], *, opset: int = 18, outputs: int = 1, **attributes: Any
) -> list[np.ndarray]:
    """What ONNX Runtime makes of one operation."""
    names = [f"i{index}" if value is not None else "" for index, value in enumerate(inputs)]
    given = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if value is not None}
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    made = [f"o{index}" for index in range(outputs)]
    node = helper.make_node(kind, names, made, **attributes)
    graph = helper.make_graph([node], "one", declared, [onnx.ValueInfoProto(name=name) for name in made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, given))
