"""Normalizations."""

from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import is_symbolic, mb
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Array, Step, shape_of

TABLE: Final = Table()


@TABLE.op("BatchNormalization")
def _batch(step: Step) -> Any:
    if step.attribute("training_mode", 0):
        raise step.refusal("it is being trained: export the model for inference")
    x, epsilon = step.variable(0), step.attribute("epsilon", 1e-5)
    gamma, beta, mean, variance = (
        step.constant(index + 1, name).astype(np.float32)
        for index, name in enumerate(("scale", "bias", "mean", "variance"))
    )
    if 3 <= x.rank <= 5:
        return mb.batch_norm(x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=np.float32(epsilon))
    scale = (gamma / np.sqrt(variance + epsilon)).astype(np.float32)
    return mb.add(x=mb.mul(x=x, y=scale[None]), y=(beta - mean * scale)[None])


@TABLE.op("InstanceNormalization")
def _instance(step: Step) -> Any:
    return mb.instance_norm(
        x=step.variable(0),
        gamma=step.constant(1, "scale").astype(np.float32),
        beta=step.constant(2, "bias").astype(np.float32),
        epsilon=np.float32(step.attribute("epsilon", 1e-5)),
    )


@TABLE.op("LayerNormalization")
def _layer(step: Step) -> Any:
    if step.outputs > 1:
        raise step.refusal("only its first result can be had")
    x = step.variable(0)
    axis = step.attribute("axis", -1) % x.rank
    axes = list(range(axis, x.rank))
    shape = shape_of(x)[axis:]
    epsilon = np.float32(step.attribute("epsilon", 1e-5))
    if any(is_symbolic(size) for size in shape):
        raise step.refusal("it spans an axis whose size is known only when the model runs")
    gamma = _spread(step, 1, shape)
    beta = _spread(step, 2, shape)
    known = {name: value for name, value in (("gamma", gamma), ("beta", beta)) if value is not None}
    return mb.layer_norm(x=x, axes=axes, epsilon=epsilon, **known)


def _spread(step: Step, index: int, shape: tuple[int, ...]) -> Array | None:
    if step.input(index) is None:
        return None
    value = step.constant(index, "scale" if index == 1 else "bias").astype(np.float32)
    return np.broadcast_to(value, shape).copy()


@TABLE.op("RMSNormalization", "SimplifiedLayerNormalization")
def _root_mean_square(step: Step) -> Any:
    x = step.variable(0)
    axes = list(range(step.attribute("axis", -1) % x.rank, x.rank))
    mean = mb.reduce_mean(x=mb.mul(x=x, y=x), axes=axes, keep_dims=True)
    epsilon = np.float32(step.attribute("epsilon", 1e-5))
    scaled = mb.mul(x=x, y=mb.rsqrt(x=mean, epsilon=epsilon))
    return mb.mul(x=scaled, y=step.variable(1))


@TABLE.op("GroupNormalization")
def _group(step: Step) -> Any:
    """Each group of channels becomes one instance of its own."""
    x, groups = step.variable(0), step.attribute("num_groups")
    sizes = shape_of(x)
    if any(is_symbolic(size) for size in sizes[1:]):
        raise step.refusal("it spans an axis whose size is known only when the model runs")
    channels, rest = sizes[1], int(np.prod(sizes[2:]))
    flat = mb.reshape(x=x, shape=[-1, groups, channels // groups * rest])
    epsilon = np.float32(step.attribute("epsilon", 1e-5))
    normed = mb.reshape(x=mb.layer_norm(x=flat, axes=[2], epsilon=epsilon), shape=[-1, *sizes[1:]])
    gamma, beta = (step.constant(index, name) for index, name in ((1, "scale"), (2, "bias")))
    if gamma.size != channels:  # before version 21 there is one for each group
        gamma, beta = np.repeat(gamma, channels // groups), np.repeat(beta, channels // groups)
    tail = (1, channels, *(1,) * (x.rank - 2))
    scaled = mb.mul(x=normed, y=gamma.astype(np.float32).reshape(tail))
    return mb.add(x=scaled, y=beta.astype(np.float32).reshape(tail))


@TABLE.op("LpNormalization")
def _length(step: Step) -> Any:
    x, axis, order = step.variable(0), step.attribute("axis", -1), step.attribute("p", 2)
    norm = mb.reduce_l2_norm if order == 2 else mb.reduce_l1_norm
    return mb.real_div(x=x, y=norm(x=x, axes=[axis], keep_dims=True))


@TABLE.op("LRN")
def _local_response(step: Step) -> Any:
    return mb.local_response_norm(
        x=step.variable(0),
        size=step.attribute("size"),
        alpha=np.float32(step.attribute("alpha", 1e-4)),
        beta=np.float32(step.attribute("beta", 0.75)),
        k=np.float32(step.attribute("bias", 1.0)),
    )
