"""The vision kernels on a GPU: loaded, and put on a stream."""

import logging
import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU
from llama_pajamas_run_tensorrt.kernels import SUPPRESS_THREADS, TILE, compiled

logger = logging.getLogger(__name__)

#: Threads of a block that reads a head. Few, so that one image occupies the whole GPU.
_COLLECT_THREADS = 64
_GATHER_THREADS = 256


class VisionKernels:
    """The kernels of one GPU, which has to be current whenever they are used. Addresses are the GPU's.

    Args:
        device: the GPU, current.

    Raises:
        MissingDependency: there is no compiler for them.
        LoadError: the driver takes none of what the compilers made.
    """

    def __init__(self, device: GPU) -> None:
        self._module = _load(device)
        self._fit = {kind: self._function(f"fit_{kind}", "PPiiiffffffP") for kind in ("f32", "f16")}
        self._collect = {kind: self._function(f"collect_{kind}", "PPiiiiiPiPP") for kind in ("f32", "f16")}
        self._suppress = self._function("suppress_boxes", "PiPPPPP")
        self._gather = {kind: self._function(f"gather_{kind}", "PPiiiiiP") for kind in ("f32", "f16")}

    def fit(
        self,
        stream: Any,
        dtype: npt.DTypeLike,
        *,
        count: int,
        pictures: int,
        into: int,
        size: tuple[int, int],
        channels_last: bool,
        factors: Sequence[float],
        offsets: Sequence[float],
        counts: int,
    ) -> None:
        """Bring pictures to a model's input, and set the counts of boxes found to 0.

        Args:
            stream: where the work goes.
            dtype: the input's type, float32 or float16.
            count: how many pictures.
            pictures: address of what describes them.
            into: address of the input.
            size: its width and height.
            channels_last: whether it is [n, height, width, 3].
            factors: what a channel's values from 0 to 255 are multiplied by.
            offsets: what is then subtracted.
            counts: address of int32 [count], or 0.
        """
        width, height = size
        grid = (-(-width // TILE[0]), -(-height // TILE[1]), count)
        self._fit[_kind(dtype)].prepared_async_call(
            grid, (*TILE, 1), stream, pictures, into, width, height, int(channels_last), *factors, *offsets, counts
        )

    def collect(
        self,
        stream: Any,
        dtype: npt.DTypeLike,
        *,
        count: int,
        pictures: int,
        table: int,
        layout: "tuple[int, int, int, int, int]",
        wanted: int,
        room: int,
        found: int,
        counts: int,
    ) -> None:
        """Of a head in YOLOv8's layout, put the boxes that are sure enough into ``found``, in any order.

        Args:
            stream: where the work goes.
            dtype: the output's type.
            count: how many pictures.
            pictures: address of what describes them.
            table: address of the output.
            layout: channels, classes, places, and the steps from one channel and from one place to the next.
            wanted: address of uint8 [count, classes], 1 where a class is wanted.
            room: how many boxes of a picture there is room for: a power of two, at most MOST_FOUND.
            found: address of Box [count, room].
            counts: address of int32 [count]; may grow past the room.
        """
        grid = (-(-layout[2] // _COLLECT_THREADS), count, 1)
        self._collect[_kind(dtype)].prepared_async_call(
            grid, (_COLLECT_THREADS, 1, 1), stream, pictures, table, *layout, wanted, room, found, counts
        )

    def suppress(
        self,
        stream: Any,
        *,
        count: int,
        pictures: int,
        room: int,
        found: int,
        counts: int,
        keys: int,
        told: int,
        copy: int = 0,
    ) -> None:
        """Of doubles keep the surest.

        Args:
            stream: where the work goes.
            count: how many pictures.
            pictures: address of what describes them.
            room: as for :meth:`collect`.
            found: address of what that found.
            counts: the same.
            keys: address of uint64 [count, room], to sort in.
            told: address of Box [count, 1 + MOST_KEPT], in the host's pinned memory: a heading before each picture's
                boxes.
            copy: address of the same on the GPU, or 0.
        """
        self._suppress.prepared_async_call(
            (count, 1, 1), (SUPPRESS_THREADS, 1, 1), stream, pictures, room, found, counts, keys, told, copy
        )

    def gather(
        self,
        stream: Any,
        dtype: npt.DTypeLike,
        *,
        count: int,
        told: int,
        table: int,
        layout: "tuple[int, int, int, int, int]",
        weights: int,
        coefficients: int,
    ) -> None:
        """Mask coefficients of the boxes told: float32 [count, MOST_KEPT, weights] at ``coefficients``."""
        channels, _, places, *steps = layout
        self._gather[_kind(dtype)].prepared_async_call(
            (count, 1, 1), (_GATHER_THREADS, 1, 1), stream, told, table, channels, weights, places, *steps, coefficients
        )

    def _function(self, name: str, parameters: str) -> Any:
        function = self._module.get_function(name)
        function.prepare(parameters)
        return function


_loaded: WeakKeyDictionary[GPU, VisionKernels] = WeakKeyDictionary()
_loading = threading.Lock()


def vision_kernels(device: GPU) -> VisionKernels:
    """The kernels of a GPU, which has to be current; loaded once for all models.

    They stay: PyCUDA unloads a module only in the thread that its context was taken in.

    Raises:
        MissingDependency, LoadError: as :class:`VisionKernels`.
    """
    with _loading:
        kernels = _loaded.get(device)
        if kernels is None:
            kernels = _loaded[device] = VisionKernels(device)
        return kernels


def _kind(dtype: npt.DTypeLike) -> str:
    return "f16" if np.dtype(dtype) == np.float16 else "f32"


def _load(device: GPU) -> Any:
    told = ""
    for binary in compiled(device.capability):
        try:
            return _sdk.cuda.module_from_buffer(binary)
        except _sdk.cuda.Error as error:
            told = str(error)
            logger.debug("gpu=%s does not take the kernels: %s", device.name, error)
    raise LoadError(f"The driver of {device.name} does not take the vision kernels: {told}.")
