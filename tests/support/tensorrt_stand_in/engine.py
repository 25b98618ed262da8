"""TensorRT's engines, computed by ONNX Runtime: loaded, and run in execution contexts."""

import ctypes
import json
import os
import weakref
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime

from support.tensorrt_stand_in.types import NUMPY, TensorIOMode, TensorLocation, say


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
                say(
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
            say(self.log, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magic tag mismatch)")
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
        return self.trt.DataType[next(word for word, known in NUMPY.items() if np.dtype(known) == kind)]

    def numpy_type(self, name: str) -> Any:
        """The type of the tensor's values in memory."""
        return np.dtype(NUMPY[self.get_tensor_dtype(name).name])

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
            say(
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
            say(self.engine.log, f"IExecutionContext::setInputShape: {name} {shape} out of range")
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
            say(engine.log, f"IExecutionContext::enqueueV3: no address was set for {missing or 'memory'}")
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
                    say(engine.log, f"IExecutionContext::enqueueV3: no memory was given for {name}")
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
