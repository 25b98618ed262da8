"""Resizing of images.

Core ML's own resizing is used where it samples as ONNX says: nearest neighbours by whole numbers, and bilinear with
half-pixel centres or aligned corners. Anything else is a gather of places, or a product with the matrix of its weights,
both known beforehand.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from llama_pajamas_run_coreml.export._mil import is_symbolic, mb
from llama_pajamas_run_coreml.export.ops.table import Table
from llama_pajamas_run_coreml.export.values import Array, Step, shape_of

TABLE: Final = Table()

_BILINEAR: Final = {
    "half_pixel": "UNALIGN_CORNERS",
    "pytorch_half_pixel": "UNALIGN_CORNERS",
    "align_corners": "STRICT_ALIGN_CORNERS",
}


@TABLE.op("Resize", "Upsample")
def _resize(step: Step) -> Any:
    x, mode = step.variable(0), step.attribute("mode", "nearest")
    if step.attribute("antialias", 0):
        raise step.refusal("Core ML smooths nothing while it makes smaller")
    sizes, scales = _target(step, shape_of(x))
    given = shape_of(x)
    axes = [axis for axis in range(x.rank) if sizes[axis] != given[axis]]
    if not axes:
        return mb.identity(x=x)
    if any(is_symbolic(given[axis]) or is_symbolic(sizes[axis]) for axis in axes):
        raise step.refusal("it changes a size that is known only when the model runs")
    where = step.attribute("coordinate_transformation_mode", "half_pixel" if step.op == "Resize" else "asymmetric")
    if where == "tf_crop_and_resize":
        raise step.refusal("a crop with the resizing has no counterpart in Core ML")
    if min(axes) >= x.rank - 2 and x.rank >= 3 and (made := _native(step, x, mode, where, sizes, scales)) is not None:
        return made
    for axis in axes:
        x = _axis(step, x, axis, int(sizes[axis]), scales[axis], mode, where)
    return x


def _target(step: Step, given: tuple[Any, ...]) -> tuple[list[Any], list[float]]:
    """For each axis its new size, and the factor between the two."""
    scales, sizes = step.numbers("scales", 2 if step.opset > 10 else 1), None
    if step.opset > 10 and step.input(3) is not None:
        sizes = step.numbers("sizes", 3)
    if step.opset > 10 and step.input(2) is not None:
        scales = tuple(step.constant(2, "scales").reshape(-1).tolist()) or None
    elif step.opset == 10 or step.op == "Upsample":
        known = step.attribute("scales")
        scales = tuple(known) if known else tuple(step.constant(1, "scales").reshape(-1).tolist())
    named = [axis % len(given) for axis in step.attribute("axes") or range(len(given))]
    new: list[Any] = list(given)
    factors = [1.0] * len(given)
    if sizes:
        if step.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise step.refusal("it keeps an aspect ratio")
        for axis, size in zip(named, sizes, strict=True):
            new[axis] = size
            factors[axis] = 1.0 if size == given[axis] else size / given[axis]
        return new, factors
    if not scales:
        raise step.refusal("it has neither sizes nor scales")
    for axis, scale in zip(named, scales, strict=True):
        factors[axis] = float(scale)
        if scale != 1:
            new[axis] = int(np.floor(given[axis] * scale)) if not is_symbolic(given[axis]) else given[axis] * scale
    return new, factors


def _native(step: Step, x: Any, mode: str, where: str, sizes: list[Any], scales: list[float]) -> Any | None:
    """Core ML's own resizing, or None where it would sample other places."""
    given = shape_of(x)[-2:]
    height, width = (int(size) for size in sizes[-2:])
    if mode == "nearest":
        for size, new, scale in zip(given, (height, width), scales[-2:], strict=True):
            shown = _nearest(step, _places(size, new, scale, where, step), size)
            if new % size or not np.array_equal(shown, np.arange(new) * size // new):  # each as often as the others
                return None
        return mb.upsample_nearest_neighbor(
            x=x, scale_factor_height=height // given[0], scale_factor_width=width // given[1]
        )
    exact = all(
        round(size * scale, 6) == new for size, scale, new in zip(given, scales[-2:], (height, width), strict=True)
    )
    if mode != "linear" or where not in _BILINEAR or not exact or 1 in (height, width):
        return None
    return mb.resize_bilinear(x=x, target_size_height=height, target_size_width=width, sampling_mode=_BILINEAR[where])


def _axis(step: Step, x: Any, axis: int, size: int, scale: float, mode: str, where: str) -> Any:
    """One axis in another size."""
    given = int(shape_of(x)[axis])
    places = _places(given, size, scale, where, step)
    if mode == "nearest":
        return mb.gather(x=x, indices=_nearest(step, places, given), axis=axis, validate_indices=False)
    weights = _weights(step, places, given, mode)
    last = x.rank - 1
    perm = list(range(x.rank))
    perm[axis], perm[last] = last, axis
    x = x if axis == last else mb.transpose(x=x, perm=perm)
    x = mb.matmul(x=x, y=weights)
    return x if axis == last else mb.transpose(x=x, perm=perm)


def _places(given: int, size: int, scale: float, where: str, step: Step) -> Array:
    """For each new place the old one that it shows."""
    new = np.arange(size, dtype=np.float64)
    if where == "asymmetric":
        return new / scale
    if where == "align_corners":
        return new * (given - 1) / (size - 1) if size > 1 else new
    if where == "pytorch_half_pixel" and size == 1:
        return np.zeros(1)
    if where == "half_pixel_symmetric":
        exact = given * scale
        return given / 2 * (1 - size / exact) + (new + 0.5) / scale - 0.5
    if where in ("half_pixel", "pytorch_half_pixel"):
        return (new + 0.5) / scale - 0.5
    raise step.refusal(f"places are counted as {where}")


def _nearest(step: Step, places: Array, given: int) -> Array:
    usual = "round_prefer_floor" if step.op == "Resize" and step.opset > 10 else "floor"
    roundings: dict[str, Callable[[Array], Array]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda values: np.ceil(values - 0.5),
        "round_prefer_ceil": lambda values: np.floor(values + 0.5),
    }
    rounded = roundings[step.attribute("nearest_mode", usual)](places)
    return np.clip(rounded, 0, given - 1).astype(np.int32)


def _weights(step: Step, places: Array, given: int, mode: str) -> Array:
    """How much each old place adds to each new one: float32 [given, size]."""
    made = np.zeros((given, len(places)))
    first = np.floor(places).astype(int)
    if mode == "linear":
        rest = places - first
        taps: tuple[tuple[int, Array], ...] = ((0, 1 - rest), (1, rest))
    elif mode == "cubic":
        if step.attribute("exclude_outside", 0):
            raise step.refusal("it leaves out what lies outside")
        sharpness = step.attribute("cubic_coeff_a", -0.75)
        taps = tuple((tap, _cubic(places - first - tap, sharpness)) for tap in range(-1, 3))
    else:
        raise step.refusal(f"it interpolates in the way {mode}")
    columns = np.arange(len(places))
    for tap, weight in taps:
        np.add.at(made, (np.clip(first + tap, 0, given - 1), columns), weight)
    return made.astype(np.float32)


def _cubic(distance: Array, a: float) -> Array:
    far = np.abs(distance)
    near = (a + 2) * far**3 - (a + 3) * far**2 + 1
    outer = a * far**3 - 5 * a * far**2 + 8 * a * far - 4 * a
    return np.where(far <= 1, near, np.where(far < 2, outer, 0.0))
