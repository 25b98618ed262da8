"""Activations, and what squashes a whole axis."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import Var, mb
from llama_pajamas_run_coreml.export.ops.elements import is_integer
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Step, shape_of

TABLE: Final = Table()


def _plain(name: str) -> Callable[[Step], Any]:
    return lambda step: getattr(mb, name)(x=step.variable(0))


for onnx_name, mil_name in {
    "Relu": "relu", "Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign",
}.items():  # fmt: skip
    TABLE[onnx_name] = _plain(mil_name)


@TABLE.op("LeakyRelu")
def _leaky(step: Step) -> Any:
    return mb.leaky_relu(x=step.variable(0), alpha=np.float32(step.attribute("alpha", 0.01)))


@TABLE.op("Elu")
def _elu(step: Step) -> Any:
    return mb.elu(x=step.variable(0), alpha=np.float32(step.attribute("alpha", 1.0)))


@TABLE.op("Selu")
def _selu(step: Step) -> Any:
    alpha, gamma = step.attribute("alpha", 1.6732632), step.attribute("gamma", 1.0507010)
    return mb.mul(x=mb.elu(x=step.variable(0), alpha=np.float32(alpha)), y=np.float32(gamma))


@TABLE.op("Celu")
def _celu(step: Step) -> Any:
    alpha = np.float32(step.attribute("alpha", 1.0))
    scaled = mb.elu(x=mb.mul(x=step.variable(0), y=np.float32(1 / alpha)), alpha=np.float32(1))
    return mb.mul(x=scaled, y=alpha)


@TABLE.op("PRelu")
def _prelu(step: Step) -> Any:
    x = step.variable(0)
    slopes = mb.mul(x=mb.minimum(x=x, y=np.float32(0)), y=step.variable(1))
    return mb.add(x=mb.relu(x=x), y=slopes)


@TABLE.op("HardSigmoid")
def _hard_sigmoid(step: Step) -> Any:
    alpha, beta = step.attribute("alpha", 0.2), step.attribute("beta", 0.5)
    return mb.sigmoid_hard(x=step.variable(0), alpha=np.float32(alpha), beta=np.float32(beta))


@TABLE.op("HardSwish")
def _hard_swish(step: Step) -> Any:
    x = step.variable(0)
    return mb.mul(x=x, y=mb.sigmoid_hard(x=x, alpha=np.float32(1 / 6), beta=np.float32(0.5)))


@TABLE.op("Mish")
def _mish(step: Step) -> Any:
    x = step.variable(0)
    return mb.mul(x=x, y=mb.tanh(x=mb.softplus(x=x)))


@TABLE.op("Gelu")
def _gelu(step: Step) -> Any:
    mode = "TANH_APPROXIMATION" if step.attribute("approximate", "none") == "tanh" else "EXACT"
    return mb.gelu(x=step.variable(0), mode=mode)


@TABLE.op("Swish")
def _swish(step: Step) -> Any:
    x, alpha = step.variable(0), step.attribute("alpha", 1.0)
    return mb.silu(x=x) if alpha == 1.0 else mb.mul(x=x, y=mb.sigmoid(x=mb.mul(x=x, y=np.float32(alpha))))


@TABLE.op("Clip")
def _clip(step: Step) -> Any:
    """Limits are attributes before version 11, and inputs that may be left out since."""
    x = step.variable(0)
    number = np.int32 if is_integer(x) else np.float32
    for name, index, apply in (("min", 1, mb.maximum), ("max", 2, mb.minimum)):
        limit = step.attribute(name)
        if limit is None:
            if step.input(index) is None:
                continue
            limit = step.variable(index)
        x = apply(x=x, y=limit if isinstance(limit, Var) else number(limit))
    return mb.identity(x=x) if x is step.input(0) else x


@TABLE.op("Softmax", "LogSoftmax", "Hardmax")
def _softmax(step: Step) -> Any:
    if step.op == "Hardmax":
        raise step.refusal("Core ML has no counterpart")
    x = step.variable(0)
    rank = len(shape_of(x))
    axis = step.attribute("axis", -1 if step.opset >= 13 else 1)
    if step.opset >= 13 or axis % rank == rank - 1:
        return _squash(step.op, x, axis)
    # Before version 13 all axes from this one on are squashed as one.
    shape = shape_of(x)
    flat = mb.reshape(x=x, shape=_flattened(step, shape, axis % rank))
    return mb.reshape(x=_squash(step.op, flat, -1), shape=step.sizes.vector(shape))


def _squash(op: str, x: Any, axis: int) -> Any:
    if op == "Softmax":
        return mb.softmax(x=x, axis=axis)
    return mb.sub(x=x, y=mb.reduce_log_sum_exp(x=x, axes=[axis], keep_dims=True))


def _flattened(step: Step, shape: tuple[Any, ...], axis: int) -> Any:
    tail = shape[axis:]
    if not all(isinstance(size, int) for size in tail):
        raise step.refusal("it spans an axis whose size is known only when the model runs")
    return [-1, int(np.prod(tail))]
