"""The one file that runs Core ML: loading a package, predicting, and what its errors mean."""

import logging
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import (
    BadInput,
    InferenceError,
    LoadError,
    MissingDependency,
    OutOfMemory,
    PajamasError,
    Unsupported,
)
from llama_pajamas_run_coreml._compiled import CompiledModels
from llama_pajamas_run_coreml._sdk import coremltools
from llama_pajamas_run_coreml.interface import Feature, Interface, read_model

logger = logging.getLogger(__name__)

#: What computes a model: coremltools' names in small letters, and the reference evaluator, which runs on any system.
REFERENCE: Final = "reference"
COMPUTE_UNITS: Final = ("all", "cpu_and_ne", "cpu_and_gpu", "cpu_only", REFERENCE)
#: Those with the Neural Engine, which takes its time with a model that it sees for the first time.
_WITH_NEURAL_ENGINE: Final = ("all", "cpu_and_ne")
#: What serves until it is ready.
_MEANWHILE: Final = "cpu_and_gpu"
_OUT_OF_MEMORY: Final = ("out of memory", "insufficient memory", "cannot allocate", "memory limit")

Arrays = Mapping[str, npt.NDArray[Any]]


class Predictor(Protocol):
    """A model that was loaded."""

    def predict(self, feeds: Arrays, state: Any = None) -> dict[str, npt.NDArray[Any]]:
        """The outputs by name; an image is uint8 [height, width, 3] RGB, or [height, width]."""

    def make_state(self) -> Any:
        """What a stateful model remembers, as it is in the beginning."""


class Engine(Protocol):
    """What compiles and loads models."""

    @property
    def version(self) -> str:
        """What a compiled model depends on: the system's version and the library's."""

    def compile(self, package: Path, target: Path) -> None:
        """Compile a package into a folder that does not exist yet."""

    def open(self, model: Path, units: str) -> Predictor:
        """Load a compiled model."""


class CoreML:
    """Core ML itself, through coremltools. On a Mac."""

    @property
    def version(self) -> str:
        return f"macOS {platform.mac_ver()[0]}, coremltools {coremltools().__version__}"

    def compile(self, package: Path, target: Path) -> None:
        coremltools().models.utils.compile_model(str(package), str(target))

    def open(self, model: Path, units: str) -> Predictor:
        package = coremltools()
        chosen = package.ComputeUnit[units.upper()]
        features = {one.name: one for one in read_model(model).interfaces["main"].inputs}
        return _Loaded(package.models.CompiledMLModel(str(model), chosen), features)


class _Loaded:
    """A CompiledMLModel, with its images as arrays."""

    def __init__(self, model: Any, features: Mapping[str, Feature]) -> None:
        self._model, self._features = model, features

    def predict(self, feeds: Arrays, state: Any = None) -> dict[str, npt.NDArray[Any]]:
        given: dict[str, Any] = dict(feeds)
        for name, feature in self._features.items():
            if feature.dtype == "image" and name in given:
                given[name] = _picture(given[name])
        made = self._model.predict(given) if state is None else self._model.predict(given, state)
        return {name: np.asarray(value) for name, value in made.items()}

    def make_state(self) -> Any:
        return self._model.make_state()


@dataclass(frozen=True, slots=True)
class Memory:
    """What a stateful model remembers, with the predictor that it belongs to: a swap leaves it where it is."""

    predictor: Predictor
    state: Any


class Session:
    """A loaded model. Used from one thread at a time.

    A package is compiled for this Mac when it is loaded for the first time, and the result is kept. The Neural Engine
    then prepares itself for the model, which takes seconds to minutes: meanwhile CPU and GPU serve, where that is
    wished.

    Args:
        path: an .mlpackage, an .mlmodel or a compiled .mlmodelc.
        compute_units: "all", "cpu_and_ne", "cpu_and_gpu", "cpu_only", or "reference" for the evaluator in numpy, which
            computes what the package says on any system, slowly. None is "all".
        quick_start: whether CPU and GPU serve until the Neural Engine is ready. None does so where the model is new to
            this Mac and the Neural Engine is asked for.

    Raises:
        BadInput: there is no such model, or no such compute units.
        LoadError: it is damaged, or Core ML cannot load it.
        OutOfMemory: it does not fit.
        Unsupported: this is no Mac.
    """

    def __init__(
        self,
        path: Path,
        *,
        compute_units: str | None = None,
        quick_start: bool | None = None,
    ) -> None:
        units = compute_units or COMPUTE_UNITS[0]
        if units not in COMPUTE_UNITS:
            raise BadInput(
                f"There are no compute units '{units}'.",
                hint=f"There are: {', '.join(COMPUTE_UNITS)}.",
                param="compute_units",
            )
        self.path, self._asked = path, units
        self._lock, self._closed = threading.Lock(), False
        self._failure: str | None = None
        self._waiting: threading.Thread | None = None
        if units == REFERENCE:
            from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator

            evaluator = Evaluator(path)
            self.interface: Interface = evaluator.interface
            self.metadata = evaluator.package.metadata
            self._predictor: Predictor = evaluator
            self._now, self.prepared = units, 0.0
            return
        engine = _engine()
        about = read_model(path)
        self.interface, self.metadata = about.interfaces[about.default], about.metadata
        self._open(engine, about.compiled, quick_start)

    @property
    def compute_units(self) -> str:
        """What computes the model now."""
        return self._now

    @property
    def details(self) -> dict[str, Any]:
        """Facts for people; JSON values only."""
        facts: dict[str, Any] = {
            "file": self.path.name,
            "compute_units": self._now,
            "compile_seconds": round(self.prepared, 2),
            "preparing_neural_engine": self.preparing,
        }
        if self._failure is not None:
            facts["neural_engine"] = self._failure
        return facts

    @property
    def preparing(self) -> bool:
        """Whether the Neural Engine is still preparing itself while CPU and GPU serve."""
        return self._waiting is not None and self._waiting.is_alive()

    def predict(self, feeds: Arrays, memory: Memory | None = None) -> dict[str, npt.NDArray[Any]]:
        """Run the model.

        Args:
            feeds: an array for each input; whole numbers are brought to int32, others to float32, but for images.
            memory: what a stateful model remembers; it is changed.

        Returns:
            the outputs by name.

        Raises:
            BadInput: an input is missing, unknown or of the wrong size.
            InferenceError: the model failed.
            OutOfMemory: memory ran out.
        """
        given = {name: _plain(array, self._feature(name)) for name, array in feeds.items()}
        with _mapped(InferenceError, f"{self.path.name} failed"):
            if memory is not None:
                return memory.predictor.predict(given, memory.state)
            with self._lock:
                predictor = self._predictor
            return predictor.predict(given)

    def make_memory(self) -> Memory:
        """What a stateful model remembers, as it is in the beginning.

        Raises:
            InferenceError: the model is not stateful.
        """
        with self._lock:
            predictor = self._predictor
        with _mapped(InferenceError, f"{self.path.name} has no state"):
            return Memory(predictor, predictor.make_state())

    def close(self) -> None:
        """Let go of the model; waits for the Neural Engine's preparation, which cannot be broken off."""
        with self._lock:
            self._closed = True
        if self._waiting is not None:
            self._waiting.join()
        del self._predictor

    def _feature(self, name: str) -> Feature | None:
        return next((one for one in self.interface.inputs if one.name == name), None)

    def _open(self, engine: Engine, compiled: bool, quick: bool | None) -> None:
        started = time.monotonic()
        models = CompiledModels(engine)
        with _mapped(LoadError, f"{self.path} could not be compiled"):
            model, new = (self.path, False) if compiled else models.path(self.path)
        self.prepared = time.monotonic() - started if new else 0.0
        known = compiled or models.is_prepared(model, self._asked)
        wanted = quick if quick is not None else not known
        self._now = _MEANWHILE if wanted and self._asked in _WITH_NEURAL_ENGINE else self._asked
        with _mapped(LoadError, f"{self.path} could not be loaded"):
            try:
                self._predictor = engine.open(model, self._now)
            except Exception:
                if compiled or new:
                    raise
                logger.warning("%s: the compiled model in the cache cannot be used and is made again", self.path.name)
                model = models.again(self.path)
                self._predictor = engine.open(model, self._now)
        if self._now != self._asked:
            self._waiting = threading.Thread(
                target=self._prepare, args=(engine, models, model), name=f"coreml-prepare-{self.path.stem}", daemon=True
            )
            self._waiting.start()
        elif self._asked in _WITH_NEURAL_ENGINE and not compiled:
            models.mark_prepared(model, self._asked)

    def _prepare(self, engine: Engine, models: CompiledModels, model: Path) -> None:
        """Load the model for the Neural Engine, try it, and let it serve from then on."""
        logger.info("%s: CPU and GPU serve while the Neural Engine prepares itself", self.path.name)
        started = time.monotonic()
        try:
            better = engine.open(model, self._asked)
            if not self.interface.states:
                better.predict(_zeros(self.interface))
        except Exception as error:  # whatever it is, CPU and GPU go on
            self._failure = " ".join(str(error).split())[:400] or type(error).__name__
            logger.warning("%s stays on CPU and GPU: %s", self.path.name, self._failure)
            return
        models.mark_prepared(model, self._asked)
        with self._lock:
            if not self._closed:
                self._predictor, self._now = better, self._asked
        logger.info("%s: the Neural Engine was ready after %.1f s", self.path.name, time.monotonic() - started)


def _engine() -> Engine:
    if sys.platform != "darwin":
        raise Unsupported(
            "Core ML runs models on macOS only.",
            hint="compute_units='reference' computes what a package says on any system, slowly: to check it.",
            param="runtime",
        )
    return CoreML()


def _plain(array: npt.NDArray[Any], feature: Feature | None) -> npt.NDArray[Any]:
    if feature is not None and feature.dtype == "image":
        return array
    kind = np.int32 if np.issubdtype(array.dtype, np.integer) else np.float32
    return np.ascontiguousarray(array, kind)


def _zeros(interface: Interface) -> dict[str, npt.NDArray[Any]]:
    """A value for each input, to try a model with."""
    made: dict[str, npt.NDArray[Any]] = {}
    for one in interface.inputs:
        if one.optional:
            continue
        if one.dtype == "image":
            _, channels, height, width = one.shape
            made[one.name] = np.zeros((height, width) if channels == 1 else (height, width, channels), np.uint8)
        else:
            made[one.name] = np.zeros(one.shape, np.int32 if one.dtype == "int32" else np.float32)
    return made


def _picture(pixels: npt.NDArray[np.uint8]) -> Any:
    """An array as the image that coremltools wants."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("Core ML models that take images", package="pillow", install="uv pip install pillow") \
            from error  # fmt: skip
    return Image.fromarray(pixels)


@contextmanager
def _mapped(kind: type[LoadError] | type[InferenceError], what: str) -> Iterator[None]:
    """What coremltools raises becomes one of our errors."""
    try:
        yield
    except PajamasError:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{what}: memory ran out.") from error
    except Exception as error:  # Core ML's errors come as RuntimeError or plain Exception, with a text
        text = " ".join(str(error).split())[:400] or type(error).__name__
        if any(sign in text.lower() for sign in _OUT_OF_MEMORY):
            raise OutOfMemory(f"{what}: memory ran out ({text}).", hint="Use a smaller model.") from error
        raise kind(f"{what}: {text}") from error
