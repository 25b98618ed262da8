"""Memory for outputs whose size only the run tells, given to TensorRT while it runs."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import InferenceError, OutOfMemory
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt.memory import DeviceArray, Pool
from llama_pajamas_run_tensorrt.tensors import Shape


def make_allocator(pool: Pool) -> Any:
    """A ``tensorrt.IOutputAllocator`` for one output, which takes memory of a pool."""
    return _allocator_class(_sdk.tensorrt)(pool)


@cache
def _allocator_class(module: Any) -> type:
    class OutputAllocator(module.IOutputAllocator):  # type: ignore[misc]
        """Memory for an output whose size only the run tells.

        Attributes:
            error: why there was none, or None.
        """

        def __init__(self, pool: Pool) -> None:
            module.IOutputAllocator.__init__(self)
            self._pool = pool
            self.start()

        def start(self) -> None:
            """Forget the run before."""
            self._array: DeviceArray | None = None
            self._shape: Shape = ()
            self.error: OutOfMemory | None = None

        def reallocate_output(self, name: str, memory: Any, size: int, alignment: int) -> int:
            """Called by TensorRT; 0 where there is no memory."""
            try:
                self._array = DeviceArray(self._pool.take(max(size, alignment)), (size,), np.uint8)
            except OutOfMemory as error:
                self.error = error
                return 0
            return self._array.address

        def reallocate_output_async(self, name: str, memory: Any, size: int, alignment: int, stream: Any) -> int:
            """The same, as TensorRT 10 and later call it."""
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            """Called by TensorRT once the sizes are known."""
            self._shape = tuple(int(size) for size in shape)

        def array(self, dtype: npt.DTypeLike) -> DeviceArray:
            """The output of the run."""
            if self._array is None:
                raise InferenceError("The engine asked for no memory for one of its outputs.")
            return self._array.view(self._shape, dtype)

    return OutputAllocator
