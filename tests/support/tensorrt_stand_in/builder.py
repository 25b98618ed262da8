"""TensorRT's builder: graphs parsed, configured and written as the engines that the stand-in loads."""

import hashlib
from types import ModuleType
from typing import Any

import numpy as np
import onnx

from support.tensorrt_stand_in.engine import write_plan
from support.tensorrt_stand_in.types import NUMPY, MemoryPoolType, ProfilingVerbosity, say


class NetworkTensor:
    """tensorrt.ITensor of an input or output."""

    def __init__(self, trt: ModuleType, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        sizes = value.type.tensor_type.shape.dim
        self.shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if trt.flavour == "8.6" and kind == np.int64:
            kind = np.dtype(np.int32)
        self.dtype = trt.DataType[next(word for word, known in NUMPY.items() if np.dtype(known) == kind)]
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
    """tensorrt.ITimingCache; a line for each build."""

    def __init__(self, data: bytes) -> None:
        self.lines = set(data.split())

    def serialize(self) -> bytes:
        return b"\n".join(sorted(self.lines))

    def combine(self, other: "TimingCache", ignore_mismatch: bool) -> bool:
        self.lines |= other.lines
        return True


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
            say(self._log, "Error Code 4: The network has implicit batch dimension, ONNX needs explicit")
            return None
        dynamic = [network.get_input(i) for i in range(network.num_inputs) if -1 in network.get_input(i).shape]
        if dynamic and not config.profiles:
            say(self._log, "Error Code 4: Network has dynamic inputs, but no optimization profile")
            return None
        assert network.model is not None
        if getattr(config, "int8_calibrator", None) is not None:
            self._calibrate(network, config.int8_calibrator, config)
        self._report(config)
        shared = trt.flavour != "8.6" or trt.PreviewFeature.PROFILE_SHARING_0806 in config.previews
        profiles = [profile.shapes for profile in config.profiles] if dynamic else []
        if (timings := config.get_timing_cache()) is not None:
            flags = sorted(str(flag) for flag in config.flags)
            timings.lines.add(
                hashlib.sha256(f"{network.model.SerializeToString()!r}{flags}".encode()).hexdigest().encode()
            )
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
