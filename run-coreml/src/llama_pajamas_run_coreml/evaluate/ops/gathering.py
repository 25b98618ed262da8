"""Reading and writing at places that are computed."""

from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar

_UPDATES: Final[dict[str, Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def _places(indices: Array, size: int) -> Array:
    """Places along an axis, those from the end on counted from the start.

    What Core ML reads beyond an axis is undefined, so a program that does has a fault, whether it asks for a check or
    not.
    """
    whole = indices.astype(np.int64)
    if whole.size and (whole.min() < -size or whole.max() >= size):
        raise IndexError(f"the places {whole.min()} to {whole.max()} are not within an axis of {size}")
    return np.where(whole < 0, whole + size, whole)


@op("gather", exact=True, ignored=("validate_indices",))
def gather(x: Array, indices: Array, axis: Scalar = 0, batch_dims: Scalar = 0) -> Array:
    along, batch = int(axis) % x.ndim, int(batch_dims)
    places = _places(indices, x.shape[along])
    if batch == 0:
        return np.take(x, places, axis=along)
    lead = x.shape[:batch]
    rows = [np.take(x[at], places[at], axis=along - batch) for at in np.ndindex(*lead)]
    return np.stack(rows).reshape(*lead, *rows[0].shape)


@op("gather_along_axis", exact=True, ignored=("validate_indices",))
def gather_along_axis(x: Array, indices: Array, axis: Scalar = 0) -> Array:
    along = int(axis)
    return np.take_along_axis(x, _places(indices, x.shape[along]), along)


@op("gather_nd", exact=True, ignored=("validate_indices",))
def gather_nd(x: Array, indices: Array, batch_dims: Scalar = 0) -> Array:
    batch, depth = int(batch_dims), indices.shape[-1]
    places = tuple(_places(indices[..., axis], x.shape[batch + axis]) for axis in range(depth))
    lead = np.indices(x.shape[:batch])
    spread = tuple(one.reshape(*one.shape, *[1] * (indices.ndim - 1 - batch)) for one in lead)
    return np.asarray(x[(*spread, *places)])


@op("scatter", ignored=("validate_indices",))
def scatter(data: Array, indices: Array, updates: Array, axis: Scalar = 0, mode: str = "add") -> Array:
    along = int(axis) % data.ndim
    made = data.copy()
    places = _places(indices, data.shape[along])
    place = (slice(None),) * along + (places,)
    return _written(made, place, updates, mode)


@op("scatter_along_axis", ignored=("validate_indices",))
def scatter_along_axis(data: Array, indices: Array, updates: Array, axis: Scalar = 0, mode: str = "add") -> Array:
    along = int(axis) % data.ndim
    place: list[Array] = list(np.indices(indices.shape))
    place[along] = _places(indices, data.shape[along])
    return _written(data.copy(), tuple(place), updates, mode)


@op("scatter_nd", ignored=("validate_indices",))
def scatter_nd(data: Array, indices: Array, updates: Array, mode: str = "add") -> Array:
    place = tuple(_places(indices[..., axis], data.shape[axis]) for axis in range(indices.shape[-1]))
    return _written(data.copy(), place, updates, mode)


def _written(made: Array, place: tuple[Array | slice, ...], updates: Array, mode: str) -> Array:
    if mode == "update":
        made[place] = updates
        return made
    if mode not in _UPDATES:
        raise Unsupported(f"An operation that scatters has the mode {mode}, which is not known here.")
    _UPDATES[mode].at(made, place, updates)  # places may come twice
    return made
