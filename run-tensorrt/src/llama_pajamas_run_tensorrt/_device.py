"""GPUs: finding one, and having it current for a while."""

import atexit
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._driver import Driver, DriverError

logger = logging.getLogger(__name__)


class GPU:
    """One GPU, with its primary context: that of the CUDA runtime, which TensorRT and PyTorch use as well.

    The context is taken once for the life of the process: TensorRT keeps things in it that outlive its engines. A
    thread has it current only within :meth:`current`, because PyCUDA aborts a process that ends with a context on its
    stack.

    Attributes:
        index: CUDA's index.
        uuid: "GPU-...", or "" where the driver does not tell.
        name: "NVIDIA H200".
        capability: its compute capability.
        memory: bytes in all.
    """

    def __init__(self, index: int) -> None:
        device = _sdk.cuda.Device(index)
        self.index = index
        self.name = str(device.name())
        self.capability = (int(device.compute_capability()[0]), int(device.compute_capability()[1]))
        self.memory = int(device.total_memory())
        self.uuid = _uuid(index)
        self._context = device.retain_primary_context()
        self._depth = threading.local()

    @contextmanager
    def current(self) -> Iterator[None]:
        """The GPU as the calling thread's own; may be nested."""
        depth = getattr(self._depth, "value", 0)
        if depth == 0:
            self._context.push()
        self._depth.value = depth + 1
        try:
            yield
        finally:
            self._depth.value = depth
            if depth == 0:
                _sdk.cuda.Context.pop()

    def check_current(self) -> None:
        """See that the calling thread is within :meth:`current`. Raises InferenceError where it is not."""
        if not getattr(self._depth, "value", 0):
            raise InferenceError("A lane was used outside of `with session.lane() as lane`.")


_gpus: dict[int, GPU] = {}
_gpus_lock = threading.Lock()


def find_device(which: int | str | None = None) -> GPU:
    """A GPU by CUDA's index, or by its UUID, or the first.

    Raises:
        BadInput: there is no such GPU; the message lists those there are.
        LoadError: there is none at all, or the driver does not answer.
    """
    with _gpus_lock, _sdk.mapped(LoadError, "CUDA does not start"):
        _sdk.cuda.init()
        count = _sdk.cuda.Device.count()
        if not count:
            raise LoadError("CUDA sees no GPU.", hint="See CUDA_VISIBLE_DEVICES, and that the driver is loaded.")
        index = 0 if which is None else _index_of(which, count)
        if index not in _gpus:
            _gpus[index] = GPU(index)
        return _gpus[index]


def _index_of(which: int | str, count: int) -> int:
    text = str(which).removeprefix("cuda:")
    if text.isdecimal():
        if int(text) < count:
            return int(text)
        raise BadInput(f"There is no GPU {text}; there are {count}, from 0 on.", param="device")
    uuids = [_uuid(index) for index in range(count)]
    matching = [index for index, uuid in enumerate(uuids) if text and uuid.lower().startswith(text.lower())]
    if len(matching) == 1:
        return matching[0]
    raise BadInput(f"There is no GPU '{which}'.", hint=f"GPUs: {', '.join(filter(None, uuids))}.", param="device")


def _uuid(index: int) -> str:
    try:
        return driver().uuid(index)
    except (DriverError, OSError) as error:
        logger.debug("device=%d tells no UUID: %s", index, error)
        return ""


_drivers: list[Driver] = []


def driver() -> Driver:
    """The CUDA driver's calls that PyCUDA lacks. Raises OSError where there is none."""
    if not _drivers:
        _drivers.append(Driver())
    return _drivers[0]


@atexit.register
def _leave_nothing_current() -> None:
    """Pop what the main thread may still have, as after an interrupt: PyCUDA aborts a process that ends so."""
    for gpu in _gpus.values():
        if getattr(gpu._depth, "value", 0):
            gpu._depth.value = 0
            _sdk.cuda.Context.pop()
