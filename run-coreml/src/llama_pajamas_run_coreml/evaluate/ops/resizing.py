"""Pictures in other sizes."""

import numpy as np

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar


def _points(size: int, wanted: int, mode: str) -> Array:
    """Where along an axis the points of the result lie, float64, as coremltools documents each mode."""
    places = np.arange(wanted, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if wanted == 1:
            points = np.zeros(1) if mode == "STRICT_ALIGN_CORNERS" else np.full(1, (size - 1) / 2)
        else:
            points = places * ((size - 1) / (wanted - 1))
    elif mode == "DEFAULT":
        points = places * (size / wanted)  # (size - size / wanted) / (wanted - 1), which is the same
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / wanted
        points = 0.5 * delta + places * delta
    elif mode == "UNALIGN_CORNERS":
        points = (places + 0.5) * (size / wanted) - 0.5
    else:
        raise Unsupported(f"An operation that resizes has the mode {mode}, which is not known here.")
    return np.clip(points, 0, size - 1)


def _linear(x: Array, axis: int, points: Array) -> Array:
    """Values between those of an axis."""
    size = x.shape[axis]
    low = np.minimum(np.floor(points).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = (points - low).astype(np.float32).reshape(-1, *[1] * (x.ndim - 1 - axis))
    below, above = np.take(x, low, axis=axis), np.take(x, high, axis=axis)
    return below + weight * (above - below)


def _bilinear(x: Array, height: int, width: int, mode: str) -> Array:
    rows = _linear(x, x.ndim - 2, _points(x.shape[-2], height, mode))
    return _linear(rows, x.ndim - 1, _points(x.shape[-1], width, mode))


def _nearest(x: Array, sizes: tuple[int, ...]) -> Array:
    for axis, wanted in zip(range(x.ndim - len(sizes), x.ndim), sizes, strict=True):
        size = x.shape[axis]
        if wanted != size:
            places = np.minimum((np.arange(wanted) * size) // wanted, size - 1)
            x = np.take(x, places, axis=axis)
    return x


@op("upsample_nearest_neighbor", exact=True)
def upsample_nearest_neighbor(x: Array, scale_factor_height: Scalar = 1, scale_factor_width: Scalar = 1) -> Array:
    return _nearest(x, _scaled(x, scale_factor_height, scale_factor_width))


@op("resize_nearest_neighbor", exact=True)
def resize_nearest_neighbor(x: Array, target_size_height: Scalar, target_size_width: Scalar) -> Array:
    return _nearest(x, (int(target_size_height), int(target_size_width)))


@op("upsample_bilinear")
def upsample_bilinear(
    x: Array,
    scale_factor_height: Scalar = 1,
    scale_factor_width: Scalar = 1,
    align_corners: Scalar = True,
    half_pixel_centers: Array | None = None,
) -> Array:
    height, width = _scaled(x, scale_factor_height, scale_factor_width)
    halves = not bool(align_corners) if half_pixel_centers is None else bool(half_pixel_centers)
    if bool(align_corners):
        mode = "OFFSET_CORNERS" if halves else "STRICT_ALIGN_CORNERS"
        if halves:
            raise Unsupported("An upsample_bilinear aligns the corners and has half pixels, which is not known here.")
    else:
        mode = "UNALIGN_CORNERS" if halves else "DEFAULT"
    return _bilinear(x, height, width, mode)


@op("resize_bilinear")
def resize_bilinear(
    x: Array, target_size_height: Scalar = 1, target_size_width: Scalar = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    return _bilinear(x, int(target_size_height), int(target_size_width), sampling_mode)


@op("resize")
def resize(
    x: Array,
    shape: Array,
    resized_dims: Scalar,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    count = int(resized_dims)
    given = [int(size) for size in shape][len(shape) - count :]
    own = x.shape[x.ndim - count :]
    sizes = tuple(old if size == 0 else size for size, old in zip(given, own, strict=True))
    if interpolation_mode == "LINEAR":
        for axis, wanted in zip(range(x.ndim - count, x.ndim), sizes, strict=True):
            x = _linear(x, axis, _points(x.shape[axis], wanted, sampling_mode))
        return x
    if interpolation_mode != "NEAREST_NEIGHBOR" or sampling_mode != "DEFAULT":
        raise Unsupported(f"A resize has the modes {interpolation_mode} and {sampling_mode}, which are not known here.")
    return _nearest(x, sizes)


def _scaled(x: Array, height: Scalar, width: Scalar) -> tuple[int, int]:
    return int(np.floor(x.shape[-2] * float(height))), int(np.floor(x.shape[-1] * float(width)))
