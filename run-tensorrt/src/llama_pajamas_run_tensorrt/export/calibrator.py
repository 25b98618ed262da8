"""TensorRT's own entropy calibrator, fed with our batches: INT8 where no Q/DQ nodes are wanted (8.6 and 10)."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt.export.calibrate import Feeds


class BatchesOnDevice:
    """One batch after another in the GPU's memory.

    Args:
        batches: they, each with an array for every input.
        size: rows of each; a smaller one ends it.
    """

    def __init__(self, batches: Iterable[Feeds], size: int) -> None:
        self._batches, self.size = iter(batches), size
        self._held: dict[str, tuple[int, Any]] = {}

    def next(self, names: Sequence[str]) -> list[int] | None:
        """The addresses of the next batch's inputs, or None at the end."""
        batch = next(self._batches, None)
        if batch is None or any(len(batch[name]) != self.size for name in names):
            return None
        return [self._copied(name, np.ascontiguousarray(batch[name])) for name in names]

    def close(self) -> None:
        """Free the memory."""
        for _, memory in self._held.values():
            _sdk.device_free(memory)
        self._held.clear()

    def _copied(self, name: str, array: Any) -> int:
        if name not in self._held or self._held[name][0] < array.nbytes:
            self._held[name] = (array.nbytes, _sdk.device_alloc(array.nbytes))
        memory = self._held[name][1]
        _sdk.cuda.memcpy_htod(memory, array)
        return int(memory)


def make_calibrator(batches: BatchesOnDevice) -> Any:
    """The calibrator, to be used with the GPU current."""
    return _calibrator_class(_sdk.tensorrt)(batches)


@cache
def _calibrator_class(module: Any) -> type:
    class Calibrator(module.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self, batches: BatchesOnDevice) -> None:
            module.IInt8EntropyCalibrator2.__init__(self)
            self._batches = batches

        def get_batch_size(self) -> int:
            return self._batches.size

        def get_batch(self, names: Sequence[str]) -> list[int] | None:
            return self._batches.next(names)

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, table: Any) -> None:
            """The scales are in the engine; nothing else wants them."""

    return Calibrator
