"""A lane of a session: one place to run an engine in, with a stream, contexts and memory of its own."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, OutOfMemory, Unsupported
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._allocator import make_allocator
from llama_pajamas_run_tensorrt._device import driver
from llama_pajamas_run_tensorrt._driver import DriverError, Graph
from llama_pajamas_run_tensorrt._versions import Differences
from llama_pajamas_run_tensorrt.memory import Block, DeviceArray, Pool
from llama_pajamas_run_tensorrt.tensors import Shape, Tensor, profile_for

if TYPE_CHECKING:
    from llama_pajamas_run_tensorrt._session import Session

logger = logging.getLogger(__name__)

#: A stream that does not wait for CUDA's default stream, nor lets it wait (CU_STREAM_NON_BLOCKING).
_NON_BLOCKING: Final = 1
#: How many shapes of a lane keep a graph of their own, and among how many recent ones a shape has to come back.
_GRAPHS: Final = 8
_RECENT: Final = 16
#: For how many input shapes the shapes of the outputs are kept in mind, and for how many places pinned memory is.
_SHAPES: Final = 256
_STAGED: Final = 64
#: What TensorRT wants memory to be aligned to.
_ALIGNED: Final = 256

Feed = npt.NDArray[Any] | DeviceArray


@dataclass(slots=True)
class _Bound:
    """An execution context with what it was told last, and the graph of just that."""

    context: Any
    profile: int = -1
    shapes: dict[str, Shape] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    graph: Graph | None = None


class Lane:
    """One place to run an engine in: a stream, execution contexts, scratch memory and buffers.

    Used by one thread at a time, within ``with session.lane() as lane``.

    Attributes:
        index: its number in the session.
        stream: the PyCUDA stream of all its work; kernels of one's own go on it as well.
        done: a PyCUDA event, for who has other streams wait for what is on this one.
        no_graphs: why no graphs are captured, or None.
    """

    def __init__(self, session: "Session", index: int) -> None:
        self.session, self.index = session, index
        self.no_graphs: str | None = None
        self._inputs: dict[str, DeviceArray] = {}
        self._outputs: dict[str, DeviceArray] = {}
        self._staging: dict[str, tuple[Any, Any]] = {}
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._allocators: dict[str, Any] = {}
        self._known: OrderedDict[Any, list[Shape]] = OrderedDict()
        self._run_sized: set[str] = set()
        self._seen: OrderedDict[Any, None] = OrderedDict()
        self._captured: OrderedDict[Any, _Bound] = OrderedDict()
        self._recorded: dict[int, _Bound] = {}
        self.stream = _sdk.cuda.Stream(_NON_BLOCKING)
        self.done = _sdk.cuda.Event(_sdk.cuda.event_flags.DISABLE_TIMING)
        self._pool = Pool(_sdk.device_alloc, _sdk.device_free, int, session._budget)
        self._pinned = Pool(_sdk.pinned_alloc, _sdk.pinned_free, _sdk.pinned_address, session._pinned_budget)
        try:
            self._scratch_bytes = max(_scratch_size(session.engine, session.differences), _ALIGNED)
            self._scratch = self._pool.take(self._scratch_bytes)
            self._bound = _Bound(self._new_context())
        except BaseException:
            self.close()
            raise

    def input(self, name: str, shape: Sequence[int]) -> DeviceArray:
        """The lane's own buffer for an input, to be written by a kernel; the same memory each time while it fits.

        Args:
            name: the input.
            shape: its sizes now.

        Raises:
            BadInput: the engine takes no such input or shape.
        """
        tensor = self.session.input(name)
        wanted = tuple(int(size) for size in shape)
        self._profile_for({name: wanted})
        return self._kept(self._inputs, name, wanted, tensor.dtype)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
        """Memory for an array that is the caller's; what it holds is left over from before.

        It is used again in the order of this lane's stream: for use in another lane, :meth:`synchronize` first.

        Raises:
            OutOfMemory: there is not enough.
        """
        return DeviceArray(self._pool.take(prod(shape) * np.dtype(dtype).itemsize), shape, dtype)

    def pinned(self, size: int) -> Block:
        """Pinned host memory that is the caller's, its ``handle`` uint8 [size or more]; copies from it do not wait.

        Raises:
            OutOfMemory: there is not enough.
        """
        return self._pinned.take(size)

    def zeros(self, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
        """Memory as :meth:`empty` gives it, with zeros in it."""
        made = self.empty(shape, dtype)
        with _sdk.mapped(InferenceError, f"{self.session.path.name} failed", self.session.log):
            if made.nbytes:
                _sdk.cuda.memset_d8_async(made.address, 0, made.nbytes, self.stream)
        return made

    def upload(self, array: npt.NDArray[Any], into: DeviceArray | None = None) -> DeviceArray:
        """Copy an array to the GPU, through pinned memory, without waiting.

        Args:
            array: any array; it can be changed as soon as this returns.
            into: where to; new memory of the lane if None. Its type decides.

        Raises:
            BadInput: the array does not go into that one.
            InferenceError: CUDA refused it.
            OutOfMemory: there is not enough.
        """
        with _sdk.mapped(InferenceError, f"{self.session.path.name} failed", self.session.log):
            return self._upload(array, into)

    def _upload(self, array: npt.NDArray[Any], into: DeviceArray | None) -> DeviceArray:
        target = self.empty(array.shape, array.dtype) if into is None else into
        if tuple(array.shape) != target.shape:
            raise BadInput(f"An array of {list(array.shape)} does not go into one of {list(target.shape)}.")
        if not np.can_cast(array.dtype, target.dtype, "same_kind"):
            raise BadInput(f"An array of {array.dtype} cannot stand for one of {target.dtype}.")
        if target.nbytes:
            key = f"{target.address:x}"
            staged = self._stage(key, target.nbytes).view(target.dtype)[: array.size].reshape(target.shape)
            np.copyto(staged, array, casting="same_kind")
            _sdk.cuda.memcpy_htod_async(target.address, staged, self.stream)
            self._staging[key][1].record(self.stream)
        return target

    def run(
        self,
        feeds: Mapping[str, Feed],
        *,
        into: Mapping[str, DeviceArray] | None = None,
        fresh: Collection[str] = (),
    ) -> dict[str, DeviceArray]:
        """Start the engine; nothing is waited for.

        Args:
            feeds: for each input a DeviceArray of its type, or a NumPy array, which is uploaded first.
            into: memory for outputs: they are written to the beginning of these arrays. Not for those whose size
                only the run tells; they get memory of their own each time.
            fresh: outputs that get memory of their own, which is the caller's. Of the others the lane's own buffers
                are given: the next run of the lane writes to them again.

        Returns:
            the outputs by name, in the engine's order.

        Raises:
            BadInput, InferenceError, OutOfMemory: as :meth:`Session.infer`.
        """
        session = self.session
        what = f"{session.path.name} failed"
        with _sdk.mapped(InferenceError, what, session.log):
            session.device.check_current()
            shapes = {name: tuple(int(size) for size in array.shape) for name, array in feeds.items()}
            for unknown in set(fresh) | set(into or ()):
                session.output(unknown)
            profile = self._profile_for(shapes, complete=True)
            addresses = {name: self._feed(name, array) for name, array in feeds.items()}
            outputs = self._run(profile, shapes, addresses, dict(into or {}), frozenset(fresh))
        return outputs

    def record(
        self,
        feeds: Mapping[str, DeviceArray],
        into: Mapping[str, DeviceArray],
        *,
        before: Callable[[], None],
        after: Callable[[], None],
    ) -> Graph | None:
        """Capture the engine with work of one's own before and after it, to be started together with one call.

        Args:
            feeds: every input. The graph reads just these arrays, so they have to stay.
            into: every output, likewise.
            before: puts work on the lane's stream; it cannot wait for any of it.
            after: the same.

        Returns:
            the graph, for :meth:`forget` when it is not needed any more, or None where none can be captured;
            :attr:`no_graphs` then says why.

        Raises:
            BadInput, InferenceError: as :meth:`run`.
        """
        if not self.session._graphs or self.no_graphs:
            return None
        with _sdk.mapped(InferenceError, f"{self.session.path.name} failed", self.session.log):
            shapes = {name: tuple(int(size) for size in array.shape) for name, array in feeds.items()}
            profile = self._profile_for(shapes, complete=True)
            if (bound := self._prepared(profile, shapes)) is None:
                return None
            self._address(bound, {name: array.address for name, array in {**feeds, **into}.items()})
            self._execute(bound)  # TensorRT wants one run of a shape before it is captured

            def work() -> None:
                before()
                self._execute(bound)
                after()

            if not self._capture(bound, work):
                return None
            self._recorded[id(bound.graph)] = bound
            return bound.graph

    def forget(self, graph: Graph) -> None:
        """Free a graph of :meth:`record`, once its work is done."""
        bound = self._recorded.pop(id(graph), None)
        if bound is not None:
            self.stream.synchronize()
            graph.close()

    def download(self, array: DeviceArray) -> npt.NDArray[Any]:
        """Bring an array to the host; waits for the lane's work."""
        return self.download_all({"": array})[""]

    def download_all(self, arrays: Mapping[str, DeviceArray]) -> dict[str, npt.NDArray[Any]]:
        """Bring several arrays to the host; waits for the lane's work once.

        Raises:
            InferenceError: the work that was waited for failed.
        """
        with _sdk.mapped(InferenceError, f"{self.session.path.name} failed", self.session.log):
            try:
                return self._brought(arrays)
            except BaseException:
                self.stream.synchronize()  # copies that were begun still write to memory that is lent again now
                raise

    def _brought(self, arrays: Mapping[str, DeviceArray]) -> dict[str, npt.NDArray[Any]]:
        staged: dict[str, Any] = {}
        for name, array in arrays.items():
            if isinstance(array, np.ndarray):  # an output in the host's memory
                staged[name] = array
                continue
            block = self._pinned.take(array.nbytes)
            view = block.handle[: array.nbytes].view(array.dtype).reshape(array.shape)
            staged[name] = (block, view)
            if array.nbytes:
                _sdk.cuda.memcpy_dtoh_async(view, array.address, self.stream)
        self.stream.synchronize()
        return {name: held.copy() if isinstance(held, np.ndarray) else held[1].copy()
                for name, held in staged.items()}  # fmt: skip

    def synchronize(self) -> None:
        """Wait until all work of the lane is done.

        Raises:
            InferenceError: it failed.
        """
        with _sdk.mapped(InferenceError, f"{self.session.path.name} failed", self.session.log):
            self.stream.synchronize()

    def _feed(self, name: str, array: Feed) -> int:
        """The address of an input's values, uploaded where they are the host's."""
        tensor = self.session.input(name)
        if tensor.on_host:
            if isinstance(array, DeviceArray):
                raise BadInput(f"The engine reads '{name}' in the host's memory: give a NumPy array.")
            self._host[name] = np.ascontiguousarray(array, tensor.dtype)
            return int(self._host[name].ctypes.data)
        if isinstance(array, DeviceArray):
            if array.dtype != tensor.dtype:
                raise BadInput(f"'{name}' takes {np.dtype(tensor.dtype)}, the array on the GPU is {array.dtype}.")
            return array.address
        return self._upload(array, self._kept(self._inputs, name, tuple(array.shape), tensor.dtype)).address

    def _kept(self, kept: dict[str, DeviceArray], name: str, shape: Shape, dtype: npt.DTypeLike) -> DeviceArray:
        """The lane's buffer of that name, made larger where it has to be."""
        size = prod(shape) * np.dtype(dtype).itemsize
        held = kept.get(name)
        if held is None or held._block.size < size:
            if held is not None:
                held.release()
                del kept[name]
            held = kept[name] = DeviceArray(self._pool.take(size), shape, dtype)
        return held.view(shape)

    def _stage(self, key: str, size: int) -> npt.NDArray[np.uint8]:
        """Pinned memory to copy from; waits until the copy before from the same memory is done."""
        held = self._staging.get(key)
        if held is not None:
            held[1].synchronize()
        if held is None or held[0].size < size:
            event = held[1] if held is not None else _sdk.cuda.Event(_sdk.cuda.event_flags.DISABLE_TIMING)
            if held is None and len(self._staging) >= _STAGED:  # addresses that do not come back
                self.stream.synchronize()
                self._staging.clear()
            held = self._staging[key] = (self._pinned.take(size), event)
        bytes_: npt.NDArray[np.uint8] = held[0].handle
        return bytes_[:size]

    def _profile_for(self, shapes: Mapping[str, Shape], *, complete: bool = False) -> int:
        session = self.session
        return profile_for(session.inputs, shapes, session.path.name, complete=complete)

    def _run(
        self,
        profile: int,
        shapes: dict[str, Shape],
        inputs: dict[str, int],
        into: dict[str, DeviceArray],
        fresh: Collection[str],
    ) -> dict[str, DeviceArray]:
        made: dict[str, Any] = {}
        free = []
        for tensor, shape in zip(self.session.outputs, self._shapes(profile, shapes), strict=True):
            if tensor.name in self._run_sized:
                free.append(tensor)
            elif tensor.on_host:
                made[tensor.name] = self._host[tensor.name] = np.empty(shape, tensor.dtype)
            elif tensor.name in into:
                made[tensor.name] = into[tensor.name].view(shape, tensor.dtype)
            elif tensor.name in fresh:
                made[tensor.name] = self.empty(shape, tensor.dtype)
            else:
                made[tensor.name] = self._kept(self._outputs, tensor.name, shape, tensor.dtype)
        addresses = {**inputs, **{name: _address_of(array) for name, array in made.items()}}
        if free:
            return self._run_free(profile, shapes, addresses, made, free)
        self._start(profile, shapes, addresses)
        return {tensor.name: made[tensor.name] for tensor in self.session.outputs}

    def _shapes(self, profile: int, shapes: dict[str, Shape]) -> list[Shape]:
        """The shapes of the outputs; those of whose sizes only the run tells are noted, and theirs mean nothing."""
        key = (profile, tuple(shapes.items()))
        known = self._known.get(key)
        if known is None or self._host:
            self._configure(self._bound, profile, shapes)
            context = self._bound.context
            known = [tuple(int(size) for size in context.get_tensor_shape(one.name)) for one in self.session.outputs]
            # Noted for good: a context that has run tells the sizes of its last run, for whatever shapes come next.
            self._run_sized.update(
                one.name for one, shape in zip(self.session.outputs, known, strict=True) if min(shape, default=0) < 0
            )
            self._known[key] = known
            while len(self._known) > _SHAPES:
                self._known.popitem(last=False)
        return known

    def _start(self, profile: int, shapes: dict[str, Shape], addresses: dict[str, int]) -> None:
        """Put the engine's work on the stream: by its graph where there is one for just this work."""
        key = (profile, tuple(shapes.items()), tuple(addresses.items()))
        bound = self._captured.get(key)
        if bound is not None:
            self._captured.move_to_end(key)
            assert bound.graph is not None
            bound.graph.launch(self.stream)
            return
        if self._worth_a_graph(key) and (bound := self._spare(profile, shapes)) is not None:
            self._address(bound, addresses)
            self._execute(bound)  # TensorRT wants one run of a shape before it is captured
            if self._capture(bound, partial(self._execute, bound)):
                self._captured[key] = bound
            return
        self._configure(self._bound, profile, shapes)
        self._address(self._bound, addresses)
        self._execute(self._bound)

    def _worth_a_graph(self, key: Any) -> bool:
        """Whether this very work came not long ago, so that it will likely come again."""
        if not self.session._graphs or self.no_graphs or self._host:
            return False
        if key in self._seen:
            del self._seen[key]
            return True
        self._seen[key] = None
        while len(self._seen) > _RECENT:
            self._seen.popitem(last=False)
        return False

    def _spare(self, profile: int, shapes: dict[str, Shape]) -> _Bound | None:
        """A context for a graph of its own: TensorRT wants a context left alone from capture on."""
        bound = None
        if len(self._captured) >= _GRAPHS:
            _, bound = self._captured.popitem(last=False)
            assert bound.graph is not None
            self.stream.synchronize()
            bound.graph.close()
            bound.graph = None
        return self._prepared(profile, shapes, bound)

    def _prepared(self, profile: int, shapes: dict[str, Shape], bound: _Bound | None = None) -> _Bound | None:
        """A context that is told what it will run, a new one if None; None where the lane can have no more of them."""
        try:
            bound = bound or _Bound(self._new_context())
            self._configure(bound, profile, shapes)
            return bound
        except (LoadError, OutOfMemory, Unsupported) as error:
            self.no_graphs = error.message
            logger.info("engine=%s lane=%d runs without graphs: %s", self.session.path.name, self.index, error.message)
            return None

    def _capture(self, bound: _Bound, work: Callable[[], None]) -> bool:
        """Make work the context's graph; where that fails the lane goes on without graphs."""
        try:
            bound.graph = driver().capture(self.stream, work)
        except (DriverError, OSError, InferenceError, _sdk.cuda.Error) as error:
            self.no_graphs = str(error)
            logger.info("engine=%s lane=%d runs without graphs: %s", self.session.path.name, self.index, error)
            return False
        return True

    def _new_context(self) -> Any:
        session = self.session
        engine = session.engine
        if session.differences.user_memory == "strategy":
            context = engine.create_execution_context(_sdk.tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED)
        else:
            context = engine.create_execution_context_without_device_memory()
        if context is None:
            raise LoadError(f"{session.path} gives no execution context: {session.log.told()}.")
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(self._scratch.address, self._scratch_bytes)
        else:
            context.device_memory = self._scratch.address
        return context

    def _configure(self, bound: _Bound, profile: int, shapes: dict[str, Shape]) -> None:
        context, session = bound.context, self.session
        if bound.profile != profile:
            # The first context of an engine without profiles to choose from has its profile already.
            chosen = context.active_optimization_profile
            if chosen != profile and not context.set_optimization_profile_async(profile, self.stream.handle):
                raise Unsupported(
                    f"{session.path} lets one lane use its profile {profile}: {session.log.told()}.",
                    hint="Load it with lanes=1, or build it with llama-pajamas export tensorrt.",
                )
            bound.profile, bound.shapes = profile, {}
        for name, shape in shapes.items():
            if bound.shapes.get(name) != shape:
                bound.shapes.pop(name, None)
                if not context.set_input_shape(name, shape):
                    raise BadInput(f"The engine does not take {list(shape)} for '{name}': {session.log.told()}.")
                bound.shapes[name] = shape
        for name in self._host:  # values of shapes decide over the shapes of outputs
            if name in shapes:
                context.set_tensor_address(name, int(self._host[name].ctypes.data))

    def _address(self, bound: _Bound, addresses: dict[str, int]) -> None:
        for name, address in addresses.items():
            if bound.addresses.get(name) != address:
                bound.addresses.pop(name, None)
                if not bound.context.set_tensor_address(name, address):
                    raise InferenceError(f"The engine takes no memory for '{name}': {self.session.log.told()}.")
                bound.addresses[name] = address

    def _execute(self, bound: _Bound) -> None:
        if not bound.context.execute_async_v3(self.stream.handle):
            raise InferenceError(f"{self.session.path.name} failed: {self.session.log.told()}.")

    def _run_free(
        self,
        profile: int,
        shapes: dict[str, Shape],
        addresses: dict[str, int],
        made: dict[str, Any],
        free: Sequence[Tensor],
    ) -> dict[str, DeviceArray]:
        """Run an engine of whose outputs only the run itself tells the sizes; waits for it."""
        bound = self._bound
        self._configure(bound, profile, shapes)
        self._address(bound, addresses)
        for tensor in free:
            if tensor.name not in self._allocators:
                self._allocators[tensor.name] = make_allocator(self._pool)
            allocator = self._allocators[tensor.name]
            allocator.start()
            if not bound.context.set_output_allocator(tensor.name, allocator):
                raise InferenceError(f"The engine takes no memory for '{tensor.name}': {self.session.log.told()}.")
        try:
            self._execute(bound)
        except InferenceError as error:
            for tensor in free:  # TensorRT says no more than that it got no memory; the pool said why
                if (told := self._allocators[tensor.name].error) is not None:
                    raise told from error
            raise
        self.stream.synchronize()
        for tensor in free:
            made[tensor.name] = self._allocators[tensor.name].array(tensor.dtype)
        return {tensor.name: made[tensor.name] for tensor in self.session.outputs}

    def close(self) -> None:
        """Free what the lane has; called by the session, with the GPU current."""
        try:
            self.stream.synchronize()
        except _sdk.cuda.Error as error:
            logger.warning("engine=%s lane=%d: %s", self.session.path.name, self.index, error)
        for bound in (*self._captured.values(), *self._recorded.values()):
            if bound.graph is not None:
                bound.graph.close()
        self._captured.clear()
        self._recorded.clear()
        self.__dict__.pop("_bound", None)
        for kept in (self._inputs, self._outputs, self._staging, self._allocators, self._host):
            kept.clear()
        self._pool.close()
        self._pinned.close()
        for name in ("stream", "done"):
            self.__dict__.pop(name, None)


def _address_of(array: DeviceArray | npt.NDArray[Any]) -> int:
    return array.address if isinstance(array, DeviceArray) else int(array.ctypes.data)


def _scratch_size(engine: Any, table: Differences) -> int:
    for name in table.memory_size:
        if hasattr(engine, name):
            return int(getattr(engine, name))
    raise Unsupported(f"This TensorRT tells no engine's need of memory ({', '.join(table.memory_size)}).")
