"""The graph itself, computed in FP32 by ONNX Runtime on the CPU: what engines are measured against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_tensorrt.export.graph import need


class Reference:
    """An ONNX graph on the CPU.

    Args:
        graph: the file, or the graph itself.

    Raises:
        LoadError: ONNX Runtime cannot run it.
        MissingDependency: ONNX Runtime is not installed.
    """

    def __init__(self, graph: "Path | Any") -> None:
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        source = graph if isinstance(graph, Path) else graph.SerializeToString()
        try:
            self._session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base below Exception
            raise LoadError(f"ONNX Runtime cannot run the graph: {' '.join(str(error).split())[:300]}.") from error
        self._types = {one.name: _numpy_type(one.type) for one in self._session.get_inputs()}
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The outputs by name."""
        cast = {name: array.astype(self._types[name], copy=False) for name, array in feeds.items()}
        return dict(zip(self.outputs, self._session.run(None, cast), strict=True))


def _numpy_type(kind: str) -> npt.DTypeLike:
    word = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(word, word))
