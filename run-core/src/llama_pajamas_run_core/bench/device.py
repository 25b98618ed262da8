"""What the bare hardware gives: a matrix product, and copies between the host and the GPU."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.bench import cublas
from llama_pajamas_run_core.bench.cuda import Device
from llama_pajamas_run_core.bench.figures import Figure, Line, attempt, timed
from llama_pajamas_run_core.errors import InferenceError

#: Rows and columns of the matrices.
SIZE = 4096
#: Milliseconds below which a GPU has to multiply them.
PRODUCT_FLOOR = 5.0
#: Bytes of one copy.
COPY = 256 * 2**20
#: The largest error allowed, against the largest element: float16 keeps eleven bits.
_TOLERANCE = 2.0**-9
_CHECKED_ROWS = (0, 1, 1237, 2048, 4095)


def product_line(device: Device | str, *, size: int = SIZE, runs: int = 50) -> Line:
    """A product of two square matrices of float16 on the GPU, beside float32 on the CPU, which has no other.

    Args:
        device: the GPU, or why there is none.
        size: rows and columns.
        runs: how often the GPU is measured.
    """
    gpu = device if isinstance(device, str) else attempt(lambda: _gpu_product(device, size, runs))
    what = f"matrix product {size} x {size}, FP16"
    return Line(what, attempt(lambda: _cpu_product(size)), gpu, PRODUCT_FLOOR if size == SIZE else None, "lower")


def copy_lines(device: Device | str, *, size: int = COPY, runs: int = 9) -> list[Line]:
    """Copies from the host to the GPU and back, from pinned memory and from memory as it comes."""
    cpu = attempt(lambda: _cpu_copy(size, runs))
    lines = []
    for kind, pinned in (("pinned", True), ("pageable", False)):
        for way, down in (("host to GPU", False), ("GPU to host", True)):
            gpu = device if isinstance(device, str) else attempt(_gpu_copy(device, size, runs, pinned, down))
            lines.append(Line(f"copy, {kind}, {way}", cpu, gpu))
    return lines


def _matrices(size: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    random = np.random.default_rng(4096)
    first, second = (random.uniform(-1, 1, (size, size)).astype(np.float16) for _ in range(2))
    return first, second


def _cpu_product(size: int) -> Figure:
    first, second = (matrix.astype(np.float32) for matrix in _matrices(size))
    taken = timed(lambda: first @ second, runs=3)
    return Figure.of([1000 * seconds for seconds in taken], "ms", "float32, NumPy")


def _gpu_product(device: Device, size: int, runs: int) -> Figure:
    library = cublas.find(device.version[0])
    first, second = _matrices(size)
    places = [device.allocate(first.nbytes) for _ in range(3)]
    for place, matrix in zip(places, (first, second), strict=False):
        device.upload(place, matrix.ctypes.data, matrix.nbytes)
    product = cublas.Product(library, size)
    try:
        taken = device.milliseconds(lambda: product(*places), runs=runs, warmup=10)
    finally:
        product.close()
    result = np.empty_like(first)
    device.download(result.ctypes.data, places[2], result.nbytes)
    check_product(first, second, result)
    teraflops = 2 * size**3 / (sorted(taken)[len(taken) // 2] * 1e9)
    return Figure.of(taken, "ms", f"cuBLAS {library.shown}, float32 sums, {teraflops:.0f} TFLOP/s, result checked")


def check_product(
    first: npt.NDArray[np.float16], second: npt.NDArray[np.float16], result: npt.NDArray[np.float16]
) -> None:
    """See that some rows of a product are right.

    Raises:
        InferenceError: they are not, so that its time means nothing.
    """
    rows = [row for row in _CHECKED_ROWS if row < len(first)]
    right = first[rows].astype(np.float32) @ second.astype(np.float32)
    error = float(np.abs(result[rows].astype(np.float32) - right).max() / np.abs(right).max())
    if not error <= _TOLERANCE:  # also where it is no number
        raise InferenceError(f"The GPU's matrix product is wrong: its relative error is {error:.3g}.")


def _cpu_copy(size: int, runs: int) -> Figure:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    taken = timed(lambda: np.copyto(target, source), runs=runs)
    return Figure.of([size / seconds / 1e9 for seconds in taken], "GB/s", "within the host's memory")


def _gpu_copy(device: Device, size: int, runs: int, pinned: bool, down: bool) -> Callable[[], Figure]:
    def measure() -> Figure:
        there = device.allocate(size)
        pageable = np.ones(size, np.uint8)  # written to, so that its pages exist
        here = device.pin(size) if pinned else pageable.ctypes.data
        if pinned:
            device.upload(there, here, size)  # the pages of both are touched before the time is taken
        copy = (lambda: device.download(here, there, size)) if down else (lambda: device.upload(there, here, size))
        taken = timed(copy, runs=runs, warmup=2)
        return Figure.of([size / seconds / 1e9 for seconds in taken], "GB/s")

    return measure
