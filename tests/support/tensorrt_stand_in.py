"""TensorRT, PyCUDA and the CUDA driver, stood in for on machines without a GPU.

The "device's" memory is the host's, an engine is the ONNX graph it was built from, and ONNX Runtime computes it. All
that run-tensorrt calls is here under the names, arguments and habits of the real thing, in the flavour of one version:
what a version lacks is missing here, what it refuses is refused. What it cannot show is speed and rounding: an FP16
engine computes in FP32 here.

    stand_in = install("8.6", monkeypatch, tmp_path)    # or the fixtures in tests/runtimes/tensorrt/conftest.py
    stand_in.cuda.state.allocated                       # bytes of the "device" that are taken now
"""

import ctypes
import enum
import json
import os
import sys
import threading
import weakref
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

VERSIONS = {"8.6": "8.6.1", "10": "10.14.1.48", "11": "11.4.0.1"}
UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"


class StandIn:
    """What was put in place.

    Attributes:
        tensorrt: the module ``tensorrt``.
        cuda: the module ``pycuda.driver``.
        driver: the library libcuda.
    """

    def __init__(self, flavour: str) -> None:
        self.cuda = make_cuda()
        self.tensorrt = make_tensorrt(flavour, self.cuda)
        self.driver = Library(self.cuda)


_SHIMS = {
    "tensorrt.py": """
import sys
from support import tensorrt_stand_in
sys.modules["tensorrt"] = tensorrt_stand_in.child({flavour!r}).tensorrt
""",
    "pycuda/__init__.py": "",
    "pycuda/driver.py": """
import sys
from support import tensorrt_stand_in
sys.modules["pycuda.driver"] = tensorrt_stand_in.child({flavour!r}).cuda
""",
}


@cache
def child(flavour: str) -> StandIn:
    """The stand-in of a process that a test started."""
    return StandIn(flavour)


def install(flavour: str, monkeypatch: Any, folder: Path) -> StandIn:
    """Put the stand-ins in place of the SDK for the length of a test, and leave nothing of them behind.

    Args:
        flavour: "8.6", "10" or "11".
        monkeypatch: pytest's fixture.
        folder: where modules of the SDK's names go, so that processes started by the test find the stand-ins too.
    """
    for name, text in _SHIMS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(flavour=flavour), "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    made = StandIn(flavour)
    package = ModuleType("pycuda")
    package.driver = made.cuda
    monkeypatch.setitem(sys.modules, "tensorrt", made.tensorrt)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", made.cuda)
    from llama_pajamas_run_tensorrt import _device, _driver, _sdk

    monkeypatch.setattr(_sdk, "tensorrt", made.tensorrt)
    monkeypatch.setattr(_sdk, "cuda", made.cuda)
    monkeypatch.setattr(_device, "_gpus", {})
    monkeypatch.setattr(_device, "_drivers", [_driver.Driver(made.driver)])
    return made


# The CUDA driver, as PyCUDA and libcuda give it


class Error(Exception):
    """pycuda.driver.Error."""


class LogicError(Error):
    """pycuda.driver.LogicError."""


class OutOfDeviceMemory(Error):
    """pycuda.driver.MemoryError."""


def make_cuda() -> ModuleType:
    """A module like pycuda.driver, with one GPU of compute capability 9.0 and eight gigabytes."""
    cuda = ModuleType("pycuda.driver")
    state = SimpleNamespace(allocated=0, pinned=0, peak=0, total=8 << 30, local=threading.local(), streams={})

    def stack() -> list[Any]:
        if not hasattr(state.local, "stack"):
            state.local.stack = []
        return state.local.stack

    def need() -> None:
        if not stack():
            raise LogicError("no currently active context?")

    class Context:
        def push(self) -> None:
            stack().append(self)

        @staticmethod
        def pop() -> None:
            if not stack():
                raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
            stack().pop()

    primary = Context()

    class Device:
        def __init__(self, index: int) -> None:
            if index != 0:
                raise LogicError("cuDeviceGet failed: invalid device ordinal")

        @staticmethod
        def count() -> int:
            return 1

        def name(self) -> str:
            return "NVIDIA H200 (stood in for)"

        def compute_capability(self) -> tuple[int, int]:
            return (9, 0)

        def total_memory(self) -> int:
            return state.total

        def retain_primary_context(self) -> Context:
            return primary

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            self.memory: np.ndarray | None = np.empty(size + 256, np.uint8)
            self.size = size
            self.address = -(-self.memory.ctypes.data // 256) * 256

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            need()
            assert self.memory is not None, "freed twice"
            self.memory = None
            state.allocated -= self.size

    def mem_alloc(size: int) -> DeviceAllocation:
        need()
        if state.allocated + size > state.total:
            raise OutOfDeviceMemory("cuMemAlloc failed: out of memory")
        state.allocated += size
        state.peak = max(state.peak, state.allocated)
        return DeviceAllocation(size)

    class HostAllocation(np.ndarray):
        def free(self) -> None:
            need()
            state.pinned -= self.nbytes

    def pagelocked_empty(shape: int, dtype: Any) -> np.ndarray:
        need()
        owner = np.empty(shape, dtype).view(HostAllocation)
        state.pinned += owner.nbytes

        class Pinned(np.ndarray):
            base = property(lambda self: owner)  # PyCUDA's arrays have the allocation as their base

        return owner.view(Pinned)

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            need()
            self.flags = flags
            self.recording: list[Any] | None = None
            self.handle = id(self)
            state.streams[self.handle] = weakref.ref(self)

        def put(self, work: Any) -> None:
            if self.recording is not None:
                self.recording.append(work)
            else:
                work()

        def synchronize(self) -> None:
            need()
            assert self.recording is None, "a stream that is captured cannot be waited for"

    class Event:
        def __init__(self, flags: int = 0) -> None:
            need()

        def record(self, stream: Stream | None = None) -> "Event":
            need()
            return self

        def synchronize(self) -> None:
            need()

    def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream) -> None:
        need()
        assert src.flags.c_contiguous
        stream.put(lambda: ctypes.memmove(int(dest), src.ctypes.data, src.nbytes))

    def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream) -> None:
        need()
        assert dest.flags.c_contiguous
        stream.put(lambda: ctypes.memmove(dest.ctypes.data, int(src), dest.nbytes))

    def memcpy_dtod_async(dest: int, src: int, size: int, stream: Stream) -> None:
        need()
        stream.put(lambda: ctypes.memmove(int(dest), int(src), size))

    def memcpy_htod(dest: int, src: np.ndarray) -> None:
        need()
        source = np.ascontiguousarray(src)
        ctypes.memmove(int(dest), source.ctypes.data, source.nbytes)

    def memset_d8_async(dest: int, value: int, count: int, stream: Stream) -> None:
        need()
        stream.put(lambda: ctypes.memset(int(dest), value, count))

    def mem_get_info() -> tuple[int, int]:
        need()
        return state.total - state.allocated, state.total

    cuda.Error, cuda.LogicError, cuda.MemoryError = Error, LogicError, OutOfDeviceMemory
    cuda.Device, cuda.Context, cuda.Stream, cuda.Event = Device, Context, Stream, Event
    cuda.event_flags = SimpleNamespace(DEFAULT=0, DISABLE_TIMING=2)
    cuda.init = lambda: None
    cuda.mem_alloc, cuda.mem_get_info, cuda.pagelocked_empty = mem_alloc, mem_get_info, pagelocked_empty
    cuda.memcpy_htod_async, cuda.memcpy_dtoh_async = memcpy_htod_async, memcpy_dtoh_async
    cuda.memcpy_dtod_async, cuda.memcpy_htod, cuda.memset_d8_async = memcpy_dtod_async, memcpy_htod, memset_d8_async
    cuda.get_driver_version = lambda: 13000
    cuda.state = state
    return cuda


class Library:
    """libcuda's calls for graphs: what is put on a capturing stream is kept, and done again at each launch."""

    def __init__(self, cuda: ModuleType) -> None:
        self._cuda = cuda
        self._graphs: dict[int, list[Any]] = {}
        self.launches = 0
        self.fails: str | None = None

    @property
    def graphs(self) -> int:
        """How many graphs there are now."""
        return len(self._graphs)

    def cuDeviceGetUuid(self, out: Any, device: Any) -> int:
        out._obj[:] = range(1, 17)
        return 0

    def cuGetErrorName(self, code: int, out: Any) -> int:
        out._obj.value = b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:
        if self.fails == "capture":
            return 900
        assert mode.value == 1
        self._stream(stream).recording = []
        return 0

    def cuStreamEndCapture(self, stream: Any, out: Any) -> int:
        stream_ = self._stream(stream)
        out._obj.value = self._keep(stream_.recording)
        stream_.recording = None
        return 0

    def cuGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: Any) -> int:
        out._obj.value = self._keep(self._graphs[graph.value])
        return 0

    def cuGraphLaunch(self, graph: Any, stream: Any) -> int:
        self.launches += 1
        for work in self._graphs[graph.value]:
            self._stream(stream).put(work)
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:
        del self._graphs[graph.value]
        return 0

    cuGraphExecDestroy = cuGraphDestroy

    def _keep(self, work: list[Any]) -> int:
        number = max(self._graphs, default=0) + 1
        self._graphs[number] = work
        return number

    def _stream(self, handle: Any) -> Any:
        return self._cuda.state.streams[handle.value]()


# TensorRT

_NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "BOOL": np.bool_, "UINT8": np.uint8,
    "INT64": np.int64,
}  # fmt: skip


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY = 0
    DETAILED = 2


class TacticSource(enum.Enum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class ILogger:
    """tensorrt.ILogger."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Logger(ILogger):
    """tensorrt.Logger."""

    def __init__(self, severity: int = ILogger.WARNING) -> None:
        self.min_severity = severity

    def log(self, severity: int, message: str) -> None:
        """Say nothing."""


class IOutputAllocator:
    """tensorrt.IOutputAllocator."""


class IInt8EntropyCalibrator2:
    """tensorrt.IInt8EntropyCalibrator2."""


class IProgressMonitor:
    """tensorrt.IProgressMonitor."""


def make_tensorrt(flavour: str, cuda: ModuleType) -> ModuleType:
    """A module like tensorrt of that version."""
    trt = ModuleType("tensorrt")
    trt.__version__ = VERSIONS[flavour]
    old, new = flavour == "8.6", flavour == "11"
    names = [name for name in _NUMPY if not (old and name == "INT64")]
    trt.DataType = enum.Enum("DataType", names)
    trt.TensorIOMode, trt.TensorLocation = TensorIOMode, TensorLocation
    trt.MemoryPoolType, trt.ProfilingVerbosity, trt.TacticSource = MemoryPoolType, ProfilingVerbosity, TacticSource
    trt.ILogger, trt.Logger, trt.IOutputAllocator = ILogger, Logger, IOutputAllocator
    trt.Runtime = lambda log: Runtime(trt, cuda, log)
    trt.Builder = lambda log: Builder(trt, cuda, log)
    trt.OnnxParser = OnnxParser
    trt.init_libnvinfer_plugins = lambda log, namespace: True
    flags = {"EXPLICIT_BATCH": 0} if old else {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", flags)
    precisions = [] if new else ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"]
    trt.BuilderFlag = enum.Enum("BuilderFlag", [*precisions, "TF32", "DISABLE_TIMING_CACHE"])
    if not new:
        trt.IInt8EntropyCalibrator2 = IInt8EntropyCalibrator2
    if old:
        trt.PreviewFeature = enum.Enum("PreviewFeature", ["FASTER_DYNAMIC_SHAPES_0805", "PROFILE_SHARING_0806"])
    else:
        trt.IProgressMonitor = IProgressMonitor
        strategies = ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"]
        trt.ExecutionContextAllocationStrategy = enum.Enum("ExecutionContextAllocationStrategy", strategies)
    trt.flavour = flavour
    trt.live = weakref.WeakSet()
    return trt


def write_plan(trt: ModuleType, model: bytes, profiles: list[Any], shared: bool) -> bytes:
    """An engine as the stand-in keeps it: a plan's header, what was built, and the graph."""
    version = bytes(int(part) for part in trt.__version__.split(".")[:4]).ljust(4, b"\0")
    head = b"ftrt" + bytes(20) + version
    about = json.dumps({"version": trt.__version__, "profiles": profiles, "shared": shared}).encode()
    check = sum(model) & 0xFFFFFFFF
    return head + len(about).to_bytes(4, "little") + about + check.to_bytes(4, "little") + model


class Runtime:
    """tensorrt.Runtime."""

    def __init__(self, trt: ModuleType, cuda: ModuleType, log: Any) -> None:
        self.trt, self.cuda, self.log = trt, cuda, log
        trt.live.add(self)

    def deserialize_cuda_engine(self, plan: bytes) -> "Engine | None":
        """The engine, or None after saying what is wrong."""
        assert self.cuda.mem_get_info()  # needs a context
        if b"CRASH" in plan[:64]:  # as TensorRT does on some damaged plans
            os.abort()
        try:
            assert plan[:4] == b"ftrt"
            size = int.from_bytes(plan[28:32], "little")
            about, rest = json.loads(plan[32 : 32 + size]), plan[32 + size :]
            if about["version"] != self.trt.__version__:
                _say(
                    self.log,
                    f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
                    f"stdVersionRead == kSERIALIZATION_VERSION failed. Version tag does not match. Note: Current "
                    f"Version: {self.trt.__version__}, Serialized Engine Version: {about['version']})",
                )
                return None
            model = rest[4:]
            assert sum(model) & 0xFFFFFFFF == int.from_bytes(rest[:4], "little")
            return (Engine if self.trt.flavour == "8.6" else NewEngine)(self, onnx.load_from_string(model), about)
        except Exception:
            _say(self.log, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magic tag mismatch)")
            return None


class Engine:
    """tensorrt.ICudaEngine."""

    def __init__(self, runtime: Runtime, model: onnx.ModelProto, about: dict[str, Any]) -> None:
        self.trt, self.cuda, self.log = runtime.trt, runtime.cuda, runtime.log
        self._runtime = weakref.ref(runtime)
        self.trt.live.add(self)
        self._profiles, self._shared = about["profiles"], about["shared"]
        self.model = model
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), _options(), providers=["CPUExecutionProvider"]
        )
        weights = {one.name for one in model.graph.initializer}
        self._tensors = [(one, TensorIOMode.INPUT) for one in model.graph.input if one.name not in weights]
        self._tensors += [(one, TensorIOMode.OUTPUT) for one in model.graph.output]
        self._in_use: set[int] = set()
        self.num_optimization_profiles = max(len(self._profiles), 1)
        if self.trt.flavour != "11":
            self.device_memory_size = 4096
        if self.trt.flavour != "8.6":
            self.device_memory_size_v2 = 4096

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index][0].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._find(name)[1]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_dtype(self, name: str) -> Any:
        kind = onnx.helper.tensor_dtype_to_np_dtype(self._find(name)[0].type.tensor_type.elem_type)
        if self.trt.flavour == "8.6" and kind == np.int64:
            kind = np.dtype(np.int32)
        return self.trt.DataType[next(word for word, known in _NUMPY.items() if np.dtype(known) == kind)]

    def numpy_type(self, name: str) -> Any:
        """The type of the tensor's values in memory."""
        return np.dtype(_NUMPY[self.get_tensor_dtype(name).name])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes = self._find(name)[0].type.tensor_type.shape.dim
        return tuple(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._profiles[profile][name]]

    def create_execution_context_without_device_memory(self) -> "ExecutionContext":
        return ExecutionContext(self)

    def _find(self, name: str) -> Any:
        return next(one for one in self._tensors if one[0].name == name)


class ExecutionContext:
    """tensorrt.IExecutionContext."""

    def __init__(self, engine: Engine) -> None:
        engine.trt.live.add(self)
        self.engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._memory = 0
        self._told: dict[str, tuple[int, ...]] = {}  # sizes that only the run before could tell
        self.active_optimization_profile = -1
        if engine._shared or engine.trt.flavour != "8.6" or 0 not in engine._in_use:
            self.set_optimization_profile_async(0, 0)

    def __del__(self) -> None:
        self.engine._in_use.discard(self.active_optimization_profile)

    @property
    def device_memory(self) -> int:
        return self._memory

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        assert address % 256 == 0
        self._memory = address

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        engine = self.engine
        alone = engine.trt.flavour == "8.6" and not engine._shared and bool(engine._profiles)
        if not 0 <= profile < engine.num_optimization_profiles or (alone and profile in engine._in_use):
            _say(
                engine.log,
                f"IExecutionContext::setOptimizationProfileAsync: Error Code 3: API Usage Error (Profile {profile} has "
                "been chosen by another IExecutionContext. Use another profileIndex or destroy the IExecutionContext "
                "that use this profile.)",
            )
            return False
        engine._in_use.discard(self.active_optimization_profile)
        engine._in_use.add(profile)
        self.active_optimization_profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.active_optimization_profile < 0:
            return False
        known = self.engine.get_tensor_shape(name)
        fits = len(known) == len(shape) and all(size in (-1, given) for size, given in zip(known, shape, strict=True))
        if fits and -1 in known:
            low, _, high = self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
            fits = all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
        if not fits:
            _say(self.engine.log, f"IExecutionContext::setInputShape: {name} {shape} out of range")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        model = onnx.ModelProto()
        model.CopyFrom(self.engine.model)
        for one in model.graph.input:
            for size, given in zip(one.type.tensor_type.shape.dim, self._shapes.get(one.name, ()), strict=False):
                size.dim_value = given
        for one in model.graph.output:
            for size in one.type.tensor_type.shape.dim:
                if not size.HasField("dim_value"):
                    size.ClearField("dim_param")
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        found = next(one for one in inferred.graph.output if one.name == name).type.tensor_type.shape.dim
        shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in found)
        # Seen on 8.6: a context that has run tells the sizes of that run, for whatever inputs come next.
        return self._told.get(name, shape) if -1 in shape else shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self._allocators[name] = allocator
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine = self.engine
        missing = [
            one.name for one, _ in engine._tensors
            if one.name not in self._addresses and one.name not in self._allocators
        ]  # fmt: skip
        if missing or not self._memory:
            _say(engine.log, f"IExecutionContext::enqueueV3: no address was set for {missing or 'memory'}")
            return False
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        stream = engine.cuda.state.streams[stream_handle]()
        if self._allocators:  # sizes that only the run tells: the call waits for them
            return self._compute(shapes, addresses, stream)
        stream.put(lambda: self._compute(shapes, addresses, stream))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int], stream: Any) -> bool:
        engine = self.engine
        feeds = {}
        for one in engine.session.get_inputs():
            kind = engine.numpy_type(one.name)
            shape = shapes.get(one.name) or engine.get_tensor_shape(one.name)
            wanted = onnx.helper.tensor_dtype_to_np_dtype(engine._find(one.name)[0].type.tensor_type.elem_type)
            feeds[one.name] = _at(addresses[one.name], shape, kind).astype(wanted)
        names = [one.name for one in engine.session.get_outputs()]
        for name, array in zip(names, engine.session.run(names, feeds), strict=True):
            values = np.ascontiguousarray(array, engine.numpy_type(name))
            address = addresses.get(name)
            if name in self._allocators:
                allocate = self._allocators[name]
                asked = allocate.reallocate_output if engine.trt.flavour == "8.6" else None
                address = (
                    asked(name, 0, values.nbytes, 256)
                    if asked
                    else allocate.reallocate_output_async(name, 0, values.nbytes, 256, stream.handle)
                )
                if not address:  # as TensorRT does: said through the log, and the run fails
                    _say(engine.log, f"IExecutionContext::enqueueV3: no memory was given for {name}")
                    return False
                allocate.notify_shape(name, values.shape)
                self._told[name] = tuple(values.shape)
            ctypes.memmove(address, values.ctypes.data, values.nbytes)
        return True


class NewEngine(Engine):
    """What is new in ICudaEngine from 10 on; there the old way to make a context is deprecated, in 11 it is gone."""

    create_execution_context_without_device_memory = None

    def create_execution_context(self, strategy: Any) -> "ExecutionContext":
        assert strategy is self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return NewExecutionContext(self)


class NewExecutionContext(ExecutionContext):
    """What is new in IExecutionContext from 10.1 on."""

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= 4096
        self.device_memory = address


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


def _at(address: int, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer(ctypes.string_at(address, size), kind).reshape(shape)


class NetworkTensor:
    """tensorrt.ITensor of an input or output."""

    def __init__(self, trt: ModuleType, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        sizes = value.type.tensor_type.shape.dim
        self.shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if trt.flavour == "8.6" and kind == np.int64:
            kind = np.dtype(np.int32)
        self.dtype = trt.DataType[next(word for word, known in _NUMPY.items() if np.dtype(known) == kind)]
        self.is_shape_tensor = False


class Network:
    """tensorrt.INetworkDefinition."""

    def __init__(self, trt: ModuleType, flags: int) -> None:
        self.trt, self.flags = trt, flags
        self.model: onnx.ModelProto | None = None

    @property
    def _inputs(self) -> list[onnx.ValueInfoProto]:
        assert self.model is not None
        weights = {one.name for one in self.model.graph.initializer}
        return [one for one in self.model.graph.input if one.name not in weights]

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        assert self.model is not None
        return len(self.model.graph.output)

    @property
    def num_layers(self) -> int:
        assert self.model is not None
        return len(self.model.graph.node)

    def get_input(self, index: int) -> NetworkTensor:
        return NetworkTensor(self.trt, self._inputs[index])

    def get_output(self, index: int) -> NetworkTensor:
        assert self.model is not None
        return NetworkTensor(self.trt, self.model.graph.output[index])


class OnnxParser:
    """tensorrt.OnnxParser."""

    def __init__(self, network: Network, log: Any) -> None:
        self._network, self._log = network, log
        self._errors: list[str] = []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            graph = onnx.load_from_string(model)
            onnx.checker.check_model(graph)
        except Exception as error:
            self._errors.append(f"In node -1 (parseGraph): UNSUPPORTED_GRAPH: {str(error).splitlines()[0]}")
            return False
        known = {node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
        newest = max(one.version for one in graph.opset_import if one.domain in ("", "ai.onnx"))
        if known or (self._network.trt.flavour == "8.6" and newest > 17):
            what = ", ".join(sorted(known)) or f"opset {newest}"
            self._errors.append(f"In node 0 (importFallbackPluginImporter): UNSUPPORTED_NODE: Plugin not found: {what}")
            return False
        self._network.model = graph
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> str:
        return self._errors[index]


class TimingCache:
    """tensorrt.ITimingCache."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+"


class OptimizationProfile:
    """tensorrt.IOptimizationProfile."""

    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[name] = [list(min), list(opt), list(max)]

    def __bool__(self) -> bool:
        return True


class BuilderConfig:
    """tensorrt.IBuilderConfig."""

    def __init__(self, trt: ModuleType) -> None:
        self._trt = trt
        self.flags: set[Any] = {trt.BuilderFlag.TF32}
        self.profiles: list[OptimizationProfile] = []
        self.previews: set[Any] = set()
        self.sources: int | None = None
        self.workspace: int | None = None
        self._cache: TimingCache | None = None
        self.builder_optimization_level = 3
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        if trt.flavour != "11":
            self.int8_calibrator: Any = None
        if trt.flavour != "8.6":
            self.progress_monitor: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def set_preview_feature(self, feature: Any, on: bool) -> None:
        assert on
        self.previews.add(feature)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.workspace = size

    def set_tactic_sources(self, sources: int) -> bool:
        self.sources = sources
        return True

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_calibration_profile(self, profile: OptimizationProfile) -> bool:
        assert self._trt.flavour != "11"
        self.calibration = profile
        return True

    def create_timing_cache(self, data: bytes) -> TimingCache:
        return TimingCache(bytes(data))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self._cache


class Builder:
    """tensorrt.Builder."""

    def __init__(self, trt: ModuleType, cuda: ModuleType, log: Any) -> None:
        self._trt, self._cuda, self._log = trt, cuda, log
        self.platform_has_fast_fp16 = self.platform_has_fast_int8 = True
        trt.last_config = None

    def create_network(self, flags: int = 0) -> Network:
        return Network(self._trt, flags)

    def create_builder_config(self) -> BuilderConfig:
        self._trt.last_config = BuilderConfig(self._trt)
        return self._trt.last_config

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
        assert self._cuda.mem_get_info()
        trt = self._trt
        if trt.flavour == "8.6" and not network.flags & 1:
            _say(self._log, "Error Code 4: The network has implicit batch dimension, ONNX needs explicit")
            return None
        dynamic = [network.get_input(i) for i in range(network.num_inputs) if -1 in network.get_input(i).shape]
        if dynamic and not config.profiles:
            _say(self._log, "Error Code 4: Network has dynamic inputs, but no optimization profile")
            return None
        assert network.model is not None
        if getattr(config, "int8_calibrator", None) is not None:
            self._calibrate(network, config.int8_calibrator, config)
        self._report(config)
        shared = trt.flavour != "8.6" or trt.PreviewFeature.PROFILE_SHARING_0806 in config.previews
        profiles = [profile.shapes for profile in config.profiles] if dynamic else []
        return write_plan(trt, network.model.SerializeToString(), profiles, shared)

    def _report(self, config: BuilderConfig) -> None:
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Building Engine", None, 2)
            monitor.phase_start("Tactic Selection", "Building Engine", 3)
            assert all(monitor.step_complete("Tactic Selection", step) for step in range(3))
            monitor.phase_finish("Tactic Selection")
            assert all(monitor.step_complete("Building Engine", step) for step in range(2))
            monitor.phase_finish("Building Engine")

    def _calibrate(self, network: Network, calibrator: Any, config: BuilderConfig) -> None:
        if calibrator.read_calibration_cache() is not None:
            return
        names = [network.get_input(i).name for i in range(network.num_inputs)]
        assert calibrator.get_batch_size() >= 1
        batches = 0
        while (addresses := calibrator.get_batch(names)) is not None:
            assert len(addresses) == len(names)
            assert config.calibration.shapes[names[0]][0][0] == calibrator.get_batch_size()
            batches += 1
        self._trt.calibrated = batches
        calibrator.write_calibration_cache(f"stand-in: {batches} batches".encode())


def _say(log: Any, text: str) -> None:
    """Give the logger an error, as TensorRT does."""
    log.log(ILogger.ERROR, text)
