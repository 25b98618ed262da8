"""The one file that talks to ONNX Runtime: loading a graph, running it, and what its errors mean."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.onnx import check_onnx
from llama_pajamas_run_core.artifacts.vision.graph import Tensor
from llama_pajamas_run_core.errors import (
    BadInput,
    InferenceError,
    LoadError,
    MissingDependency,
    OutOfMemory,
    PajamasError,
)
from llama_pajamas_run_core.hardware.limits import usable_processors

try:
    import onnxruntime
except ImportError as error:
    raise MissingDependency(
        "ONNX models", package="onnxruntime", install="uv pip install llama-pajamas-run-onnx"
    ) from error

logger = logging.getLogger(__name__)

_CPU: Final = "CPUExecutionProvider"
#: For each device its execution provider with the options it is given.
_PROVIDERS: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    "cpu": (_CPU, {}),
    # The default search times every algorithm for every new shape, which takes seconds.
    "cuda": ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}),
    "tensorrt": ("TensorrtExecutionProvider", {}),
    "rocm": ("MIGraphXExecutionProvider", {}),
    "directml": ("DmlExecutionProvider", {}),
    "openvino": ("OpenVINOExecutionProvider", {}),
    "coreml": ("CoreMLExecutionProvider", {}),
}
#: What is taken unasked, the fastest first. TensorRT builds an engine for minutes, and Core ML cuts graphs with free
#: sizes into pieces: those two only on request.
_AUTOMATIC: Final = ("cuda", "directml", "cpu")
_TYPES: Final[Mapping[str, type[np.generic]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
_OUT_OF_MEMORY: Final = ("failed to allocate memory", "bad_alloc", "out of memory", "cudaerrormemoryallocation")


class Session:
    """A loaded graph.

    Args:
        path: the .onnx file.
        device: "cpu", "cuda", "tensorrt", "rocm", "directml", "openvino" or "coreml"; None takes the fastest there is.
        providers: ONNX Runtime's execution providers by their own names, in place of ``device``.
        threads: threads of one operator on the CPU; None uses every processor that this process may use.

    Raises:
        BadInput: there is no such file or device.
        LoadError: the file is damaged, or ONNX Runtime cannot run it; the message says why.
        OutOfMemory: it does not fit.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str | None = None,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = path
        # ONNX Runtime's own reading of the metadata fails on what is not UTF-8.
        self.metadata: Mapping[str, str] = check_onnx(path).metadata
        self._session = _open(path, _chosen(device, providers), _options(threads), bool(device or providers))
        self.inputs = tuple(_tensor(one) for one in self._session.get_inputs())
        self.outputs = tuple(_tensor(one) for one in self._session.get_outputs())

    @property
    def provider(self) -> str:
        """The execution provider that the graph really runs on."""
        return str(self._session.get_providers()[0])

    @property
    def device(self) -> str:
        """The device of :attr:`provider`, by the short name."""
        return next((name for name, (provider, _) in _PROVIDERS.items() if provider == self.provider), self.provider)

    @property
    def raw(self) -> Any:
        """ONNX Runtime's own session, for libraries that take one."""
        return self._session

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run the graph.

        Args:
            feeds: an array for each input; floats are brought to the input's own precision.

        Returns:
            the outputs, in the graph's order.

        Raises:
            InferenceError: the graph failed.
            OutOfMemory: memory ran out.
        """
        types = {one.name: one.dtype for one in self.inputs}
        cast = {name: array.astype(types.get(name) or array.dtype, copy=False) for name, array in feeds.items()}
        with mapped(InferenceError, f"{self.path.name} failed"):
            made: list[npt.NDArray[Any]] = self._session.run(None, cast)
            return made

    def run_kept(self, feeds: Mapping[str, "npt.NDArray[Any] | Kept"], outputs: Sequence[str]) -> dict[str, "Kept"]:
        """Run the graph, its outputs left where it runs: what the next run takes as it is need not be copied.

        Args:
            feeds: an array of the input's own type, or what an earlier run left, for each input.
            outputs: the outputs wanted.

        Returns:
            the outputs by name.

        Raises:
            InferenceError: the graph failed.
            OutOfMemory: memory ran out.
        """
        with mapped(InferenceError, f"{self.path.name} failed"):
            binding = self._session.io_binding()
            for name, value in feeds.items():
                if isinstance(value, Kept):
                    binding.bind_ortvalue_input(name, value.raw)
                else:
                    binding.bind_cpu_input(name, value)
            place = "cuda" if self.device in ("cuda", "tensorrt") else "cpu"
            for name in outputs:
                binding.bind_output(name, place)
            self._session.run_with_iobinding(binding)
            return {name: Kept(raw) for name, raw in zip(outputs, binding.get_outputs(), strict=True)}


@dataclass(frozen=True, slots=True)
class Kept:
    """An output that lies where the graph ran.

    Attributes:
        raw: ONNX Runtime's own value.
    """

    raw: Any

    def array(self) -> npt.NDArray[Any]:
        """A copy, or the memory itself where that is the CPU's."""
        made: npt.NDArray[Any] = self.raw.numpy()
        return made


@contextmanager
def mapped(kind: type[LoadError] | type[InferenceError], what: str) -> Iterator[None]:
    """Errors of ONNX Runtime, and of libraries on top of it, become ours.

    Args:
        kind: what they become, unless memory ran out.
        what: how the message begins ("model.onnx failed").
    """
    try:
        yield
    except (PajamasError, GeneratorExit):
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{what}: memory ran out.") from error
    except Exception as error:  # ONNX Runtime's own errors share no base below Exception
        text = _short(error)
        if any(sign in text.lower() for sign in _OUT_OF_MEMORY):
            raise OutOfMemory(
                f"{what}: memory ran out ({text}).", hint="Use a smaller model or another device."
            ) from error
        raise kind(f"{what}: {text}") from error


def _short(error: Exception) -> str:
    """The telling part of ONNX Runtime's message, on one line."""
    text = " ".join(str(error).split())
    text = text.removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= 400 else text[:400] + "..."


def _chosen(device: str | None, providers: Sequence[str] | None) -> list[tuple[str, dict[str, str]]]:
    """The execution providers to ask for, with their options."""
    available = onnxruntime.get_available_providers()
    known = {provider: options for provider, options in _PROVIDERS.values()}
    if providers is not None:
        if isinstance(providers, str) or not providers:
            raise BadInput(f"providers is a list of names, not {providers!r}.", param="providers")
        wanted = [(name, known.get(name, {})) for name in providers]
    elif device is not None:
        if device not in _PROVIDERS:
            raise BadInput(f"There is no device '{device}'.", hint=f"Devices: {', '.join(_PROVIDERS)}.", param="device")
        wanted = [_PROVIDERS[device]]
    else:
        wanted = [_PROVIDERS[name] for name in _AUTOMATIC if _PROVIDERS[name][0] in available]
    for name, _ in wanted:
        if name not in available:
            raise LoadError(
                f"This ONNX Runtime has no {name}.",
                hint=f"It has: {', '.join(available)}. NVIDIA GPUs need onnxruntime-gpu in place of onnxruntime.",
            )
    if any(name == _PROVIDERS["cuda"][0] for name, _ in wanted):
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where they came as packages
    return wanted if any(name == _CPU for name, _ in wanted) else [*wanted, (_CPU, {})]


def _options(threads: int | None) -> Any:
    if threads is not None and threads < 1:
        raise BadInput(f"threads must be at least 1, not {threads}.", param="threads")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; the same text on stderr helps nobody
    # Counted here, because ONNX Runtime counts the machine's cores, whatever part of them a container may use.
    options.intra_op_num_threads = threads if threads is not None else usable_processors()
    # Threads that spin between requests take the processors from the other models of the process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _open(path: Path, providers: list[tuple[str, dict[str, str]]], options: Any, asked: bool) -> Any:
    """The session; where a device was not asked for by name, the CPU serves when the device does not start."""
    what = f"{path} could not be loaded"
    first = providers[0][0]
    if first == _CPU or asked:
        with mapped(LoadError, what):
            session = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
        if session.get_providers()[0] != first:
            raise LoadError(f"{path}: {first} did not start.", hint="See that its driver and libraries are installed.")
        return session
    try:
        with mapped(LoadError, what):
            return onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except (LoadError, OutOfMemory) as error:
        logger.warning("%s runs on the CPU, because %s failed: %s", path.name, first, error)
        return _open(path, [(_CPU, {})], options, asked)


def _tensor(argument: Any) -> Tensor:
    return Tensor(str(argument.name), tuple(argument.shape), _TYPES.get(argument.type))
