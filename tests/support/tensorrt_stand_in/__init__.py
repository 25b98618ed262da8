"""TensorRT, PyCUDA and the CUDA driver, stood in for on machines without a GPU.

The "device's" memory is the host's, an engine is the ONNX graph it was built from, and ONNX Runtime computes it. All
that run-tensorrt calls is here under the names, arguments and habits of the real thing, in the flavour of one version:
what a version lacks is missing here, what it refuses is refused. What it cannot show is speed and rounding: an FP16
engine computes in FP32 here.

    stand_in = install("8.6", monkeypatch, tmp_path)    # or the fixtures in tests/runtimes/tensorrt/conftest.py
    stand_in.cuda.state.allocated                       # bytes of the "device" that are taken now
"""

import enum
import sys
import weakref
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from llama_pajamas_run_tensorrt.engine_file import EngineRecord, checksum, remember_made_here
from support.tensorrt_stand_in.builder import Builder, OnnxParser
from support.tensorrt_stand_in.cuda import Library, make_cuda
from support.tensorrt_stand_in.engine import Runtime, write_plan
from support.tensorrt_stand_in.types import (
    NUMPY,
    IInt8EntropyCalibrator2,
    ILogger,
    IOutputAllocator,
    IProgressMonitor,
    Logger,
    MemoryPoolType,
    ProfilingVerbosity,
    TacticSource,
    TensorIOMode,
    TensorLocation,
)

__all__ = ["UUID", "VERSIONS", "StandIn", "child", "install", "write_engine", "write_plan"]

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


def write_engine(
    stand_in: StandIn,
    path: Path,
    graph: Path,
    *,
    batch: tuple[int, int, int] = (1, 4, 8),
    shared: bool = True,
    record: bool = True,
    **changes: Any,
) -> Path:
    """Write an engine of a graph, as the export leaves it.

    Args:
        stand_in: as :func:`install` gives it.
        path: the engine's file.
        graph: the ONNX file.
        batch: smallest, best and largest of what the graph leaves free.
        shared: whether contexts may share its profile, which on 8.6 an engine is built for.
        record: whether it has its sidecar, and counts as made here.
        changes: of the sidecar's fields.
    """
    model = onnx.load(graph)
    profile = {}
    for one in model.graph.input:
        sizes = one.type.tensor_type.shape.dim
        if any(not size.HasField("dim_value") for size in sizes):
            profile[one.name] = [[size.dim_value or number for size in sizes] for number in batch]
    profiles = [profile] if profile else []
    path.write_bytes(write_plan(stand_in.tensorrt, model.SerializeToString(), profiles, shared))
    if record:
        digest = checksum(path)
        fields = {
            "sha256": digest, "tensorrt": stand_in.tensorrt.__version__, "cuda": "13.0", "capability": (9, 0),
            "gpu": "NVIDIA H200", "precision": "fp32", "profiles": tuple(profiles), "source": graph.name,
            "source_sha256": checksum(graph), **changes,
        }  # fmt: skip
        EngineRecord(**fields).write(path)
        remember_made_here(digest)
    return path


def make_tensorrt(flavour: str, cuda: ModuleType) -> ModuleType:
    """A module like tensorrt of that version."""
    trt = ModuleType("tensorrt")
    trt.__version__ = VERSIONS[flavour]
    old, new = flavour == "8.6", flavour == "11"
    names = [name for name in NUMPY if not (old and name == "INT64")]
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
