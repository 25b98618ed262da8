"""Products of matrices."""

from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import Var, mb
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Array, Step, is_known, shape_of

TABLE: Final = Table()


@TABLE.op("MatMul")
def _matmul(step: Step) -> Any:
    left, right = step.input(0), step.input(1)
    if is_known(right) and right.ndim == 2 and isinstance(left, Var) and left.rank in (2, 3):
        return linear(left, np.ascontiguousarray(right.T))
    return _product(step.variable(0), step.variable(1))


def linear(x: Any, weight: Array, bias: Array | None = None) -> Any:
    """A product with known weights [out, in]: what Core ML runs best, and what is compressed."""
    arguments = {} if bias is None else {"bias": bias.astype(np.float32)}
    return mb.linear(x=x, weight=weight.astype(np.float32), **arguments)


def _product(left: Any, right: Any) -> Any:
    """NumPy's rule for vectors, which the builder has not: they become matrices for the product."""
    row, column = len(shape_of(left)) == 1, len(shape_of(right)) == 1
    left = mb.expand_dims(x=left, axes=[0]) if row else left
    right = mb.expand_dims(x=right, axes=[1]) if column else right
    made = mb.matmul(x=left, y=right)
    axes = [axis for axis, wanted in ((-2, row), (-1, column)) if wanted]
    return mb.squeeze(x=made, axes=axes) if axes else made


@TABLE.op("Gemm")
def _gemm(step: Step) -> Any:
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    left, right, bias = step.variable(0), step.input(1), step.input(2)
    if step.attribute("transA", 0):
        left = mb.transpose(x=left, perm=[1, 0])
    if is_known(right) and (bias is None or (is_known(bias) and bias.size in (1, bias.shape[-1]))):
        weight = (right if step.attribute("transB", 0) else right.T) * np.float32(alpha)
        bias = np.zeros(1, np.float32) if bias is None else bias * np.float32(beta)
        return linear(left, np.ascontiguousarray(weight), np.broadcast_to(bias.reshape(-1), (len(weight),)).copy())
    made = mb.matmul(x=left, y=step.variable(1), transpose_y=bool(step.attribute("transB", 0)))
    made = made if alpha == 1 else mb.mul(x=made, y=np.float32(alpha))
    if bias is None:
        return made
    added = step.variable(2)
    return mb.add(x=made, y=added if beta == 1 else mb.mul(x=added, y=np.float32(beta)))


@TABLE.op("Einsum")
def _einsum(step: Step) -> Any:
    """Two tensors, each letter once in each: a transposition of both, a product, a transposition of the result."""
    equation = step.attribute("equation").replace(" ", "")
    terms, _, result = equation.partition("->")
    letters = terms.split(",")
    plain = len(letters) == 2 and result and "." not in equation
    if not plain or any(len(set(term)) != len(term) for term in (*letters, result)):
        raise step.refusal(f"only products of two tensors can be converted, not {equation}")
    first, second = letters
    batch = [one for one in result if one in first and one in second]
    summed = [one for one in first if one in second and one not in result]
    rows = [one for one in result if one in first and one not in second]
    columns = [one for one in result if one in second and one not in first]
    if len(batch) + len(summed) + len(rows) != len(first) or len(batch) + len(summed) + len(columns) != len(second):
        raise step.refusal(f"{equation} sums over a letter of one tensor alone")
    left = _grouped(step, step.variable(0), first, batch, rows, summed)
    right = _grouped(step, step.variable(1), second, batch, summed, columns)
    sizes = dict(zip(first, shape_of(step.variable(0)), strict=True))
    sizes |= dict(zip(second, shape_of(step.variable(1)), strict=True))
    made = mb.matmul(x=left, y=right)
    order = [*batch, *rows, *columns]
    if len(rows) != 1 or len(columns) != 1:
        made = mb.reshape(x=made, shape=step.sizes.vector([sizes[one] for one in order]))
    perm = [order.index(one) for one in result]
    return made if perm == sorted(perm) else mb.transpose(x=made, perm=perm)


def _grouped(step: Step, x: Any, letters: str, *groups: list[str]) -> Any:
    """A tensor with its axes in the order batch, first group, second group, each group after the batch one axis."""
    batch, *others = groups
    order = [one for group in groups for one in group]
    perm = [letters.index(one) for one in order]
    x = x if perm == sorted(perm) else mb.transpose(x=x, perm=perm)
    if all(len(group) == 1 for group in others):
        return x
    sizes = dict(zip(order, shape_of(x), strict=True))
    shape: list[Any] = [sizes[one] for one in batch]
    for group in others:
        size = 1
        for one in group:
            size = size * sizes[one]
        shape.append(size)
    return mb.reshape(x=x, shape=step.sizes.vector(shape))
