"""TensorRT's enumerations and base classes, as far as run-tensorrt calls them."""

import enum
from typing import Any

import numpy as np

NUMPY = {
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


def say(log: Any, text: str) -> None:
    """Give the logger an error, as TensorRT does."""
    log.log(ILogger.ERROR, text)
