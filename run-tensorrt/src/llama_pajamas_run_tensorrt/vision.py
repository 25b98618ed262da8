"""Vision models as TensorRT engines: detection, instance masks, classification and image embeddings."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.artifacts.vision.graph import Tensor, VisionGraph
from llama_pajamas_run_core.artifacts.vision.spec import Options, Reading, read_spec
from llama_pajamas_run_core.artifacts.vision.text import TextEncoder
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.dsp.fit import Placement
from llama_pajamas_run_core.dsp.heads import Candidates, class_probabilities
from llama_pajamas_run_core.errors import BadInput, LoadError, MissingDependency
from llama_pajamas_run_core.hardware.limits import usable_processors
from llama_pajamas_run_core.types.vision import Classification, Detection, DetectOptions, Image, VisionSpec
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._copying import Copiers
from llama_pajamas_run_tensorrt._kernels import vision_kernels
from llama_pajamas_run_tensorrt._page_locked import page_locked
from llama_pajamas_run_tensorrt._pipeline import Job, Pipeline, Read
from llama_pajamas_run_tensorrt._session import Session
from llama_pajamas_run_tensorrt._turns import Turns
from llama_pajamas_run_tensorrt._versions import differences
from llama_pajamas_run_tensorrt.batcher import Batcher
from llama_pajamas_run_tensorrt.derive import is_onnx, vision_engine
from llama_pajamas_run_tensorrt.detections import Detections
from llama_pajamas_run_tensorrt.engine_file import read_engine
from llama_pajamas_run_tensorrt.texts import is_text, open_texts, text_files

logger = logging.getLogger(__name__)

_SESSION: Final = ("device", "trust", "lanes", "memory_limit", "graphs")
_BUILDING: Final = ("precision", "batch", "level")
_OWN: Final = ("max_batch", "max_wait_ms", "preprocess")
#: Threads that help to copy pixels; a processor's memory is not faster with more.
_COPIERS: Final = 8


class TensorRTVisionBackend(VisionBackend):
    """A vision model as a TensorRT engine.

    Understood without options: engines of ``llama-pajamas export tensorrt`` and of Ultralytics, and engines that have
    the config.json of the project or of Hugging Face beside them. For other engines (trtexec's) the options say what
    nothing else does.

    Calls from several threads are worked on together, up to the engine's largest batch; a call that comes alone waits
    for nobody. ``detect`` gives :class:`~llama_pajamas_run_tensorrt.detections.Detections`, which make their objects
    when the first is asked for, and hold the boxes as arrays besides. From a ``canvas`` the GPU fetches pixels itself;
    those of other pictures are copied to page-locked memory first.

    Args:
        model: the .engine file, or the folder it lies in; or an ONNX model, of which an engine is built for this GPU
            when it is first loaded: that takes seconds to minutes, and it is kept.
        options: for an ONNX model ``precision`` ("fp16", "fp32"), ``batch`` ("1:8:64") and ``level``, how long TensorRT
            searches for the fastest way (0 to 5, 3); ``task``, ``labels``,
            ``size``, ``resize``, ``mean``, ``std``, ``head`` and ``crop`` as in
            :class:`~llama_pajamas_run_core.artifacts.vision.spec.Options`; ``device``, ``trust``, ``memory_limit`` and
            ``graphs`` as in :class:`~llama_pajamas_run_tensorrt._session.Session`; ``lanes``, how many batches are on
            their way at once (2: one is prepared while the other runs; 1 for engines of others on TensorRT 8.6, which
            cannot share their profile); ``max_batch``, for smaller buffers than the
            engine's largest batch needs; ``max_wait_ms``, how long a request waits for others at most while several
            come together (1); ``preprocess``, "gpu" or "cpu" (by default the GPU, and the processor where there is no
            compiler for the kernels).

    Raises:
        BadInput: there is no such file, an option is senseless, nothing tells how to use the model, or nobody vouches
            for the engine.
        LoadError: the engine is damaged or was built for another GPU or version; the message says what to build anew.
        OutOfMemory: it does not fit.
        Unsupported: a kind of model that is not understood.
    """

    runtime = "tensorrt"

    _session: Session
    _reading: Reading
    _batcher: Batcher[Job, Any]
    _copiers: Copiers | None
    _reading_of: Callable[[int], Read]
    _where: str
    _texts: tuple[Session, TextEncoder] | None

    def _load(self, path: Path, **options: Any) -> None:
        every = (*_SESSION, *_BUILDING, *_OWN)
        given = {name: options.pop(name) for name in every if name in options}
        described = Options.of(options, also=every)
        max_batch, where = given.get("max_batch"), given.get("preprocess")
        wait = float(given.get("max_wait_ms", 1.0))
        if max_batch is not None and max_batch < 1:
            raise BadInput(f"max_batch must be at least 1, not {max_batch}.", param="max_batch")
        if not 0 <= wait <= 1000:
            raise BadInput(f"max_wait_ms must be from 0 to 1000, not {wait}.", param="max_wait_ms")
        if where not in (None, "gpu", "cpu"):
            raise BadInput(f"preprocess must be gpu or cpu, not '{where}'.", param="preprocess")
        building = {name: given[name] for name in _BUILDING if name in given}
        texts = text_files(path)
        if is_onnx(path):
            path = vision_engine(path, device=given.get("device"), options=described, **building)
        elif building:
            raise BadInput(
                f"{path} is an engine already: {', '.join(building)} would have to be known when it is built.",
                param=next(iter(building)),
            )
        running = {name: given[name] for name in _SESSION if name in given}
        engine = find_engine(path)
        session = Session(engine, **{"lanes": _lanes_of(engine), **running})
        self._texts = None
        try:
            reading = read_spec(_graph(session), described, texts=texts is not None)
            if texts is not None and "embed_text" in reading.spec.tasks:
                beside = {
                    name: given[name]
                    for name in ("trust", "memory_limit", "graphs", "precision", "level")
                    if name in given
                }
                self._texts = open_texts(texts, session.device, **beside)
            with session.device.current():
                self._open(session, reading, where, max_batch, wait / 1000)
        except BaseException:
            session.close()
            if self._texts is not None:
                self._texts[0].close()
            raise

    def _open(
        self, session: Session, reading: Reading, where: str | None, max_batch: int | None, max_wait: float
    ) -> None:
        kernels = None
        self._where = "cpu"
        if where != "cpu":
            try:
                kernels = vision_kernels(session.device)
                self._where = "gpu"
            except (MissingDependency, LoadError) as error:
                if where == "gpu":
                    raise
                logger.warning("engine=%s has its images prepared on the CPU: %s", session.path.name, error)
        threads = min(_COPIERS, usable_processors() // 2)
        copiers = Copiers(threads) if kernels is not None and threads > 1 else None
        try:
            lanes = [session.take_lane() for _ in range(session.lanes)]
            turns = Turns()
            places = [Pipeline(lane, reading, kernels, turns, copiers, max_batch) for lane in lanes]
            self._warm(places, reading.spec)
        except BaseException:
            if copiers is not None:
                copiers.close()
            raise
        self._batcher = Batcher(places, places[0].most, max_wait, working=session.device.current)
        self._session, self._reading, self._copiers = session, reading, copiers
        # The same for all callers that want as many, so that what they ask for is read together.
        self._reading_of = lru_cache(maxsize=16)(
            lambda top: lambda rows: self._named(class_probabilities(rows, reading.spec), top)
        )

    def _warm(self, places: Sequence[Pipeline], spec: VisionSpec) -> None:
        """One picture through every place, until it is a graph: so that the first request takes no longer."""
        gray = Image(np.full((spec.height, spec.width, 3), 114, np.uint8))
        for place in places:
            for _ in range(3):
                place.once([Job(gray, DetectOptions() if "detect" in spec.tasks else None)])

    def _unload(self) -> None:
        self._batcher.close()
        if self._copiers is not None:
            self._copiers.close()
        self._session.close()
        if self._texts is not None:
            self._texts[0].close()
        self._texts = None
        del self._batcher, self._session, self._reading_of

    @property
    def spec(self) -> VisionSpec:
        """What the loaded model expects and what its outputs mean."""
        self._ready()
        return self._reading.spec

    @property
    def lanes(self) -> int:
        """How many requests are worked on at once: as many as the batches on their way hold."""
        if not self.loaded:
            return 1
        return self._session.lanes * self._batcher.most

    @property
    def host_memory(self) -> int | None:
        """Bytes of pinned host memory in use; the engines themselves are on the GPU."""
        if not self.loaded:
            return None
        return self._session.host_memory + (self._texts[0].host_memory if self._texts is not None else 0)

    @property
    def details(self) -> Mapping[str, Any]:
        """The session's facts, what the model does, and the batches so far. JSON values only."""
        if not self.loaded:
            return {}
        spec = self._reading.spec
        texts = self._texts[0].memory if self._texts is not None else 0
        return {
            **self._session.details,
            "memory": self._session.memory + texts,
            "input": [self._reading.batch or "batch", 3, spec.height, spec.width],
            "tasks": sorted(spec.tasks),
            "head": spec.head,
            "classes": len(spec.labels),
            "preprocess": self._where,
            "max_batch": self._batcher.most,
            "batches": {str(size): count for size, count in sorted(self._batcher.batches.items())},
        }

    def _infer(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        pipeline = self._batcher.borrow()
        try:
            most, made = pipeline.most, []
            for start in range(0, len(batch), most):
                made.append(pipeline.infer(batch[start : start + most]))
            return [np.concatenate(parts) for parts in zip(*made, strict=True)]
        finally:
            self._batcher.give_back(pipeline)

    def _find(self, images: Sequence[Image], options: DetectOptions, *, masks: bool) -> Sequence[Sequence[Detection]]:
        make = partial(self._detections, masks=True) if masks else self._make
        return self._worked_on([Job(image, options, masks, make) for image in images])

    def _blank(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        return page_locked(self._session.device, (height, width, 3))

    def _look(self, images: Sequence[Image]) -> npt.NDArray[Any]:
        made: npt.NDArray[Any] = np.stack(self._worked_on([Job(image) for image in images]))
        return made

    def _rank(self, images: Sequence[Image], top: int) -> list[list[Classification]]:
        read = self._reading_of(top)
        return self._worked_on([Job(image, read=read) for image in images])

    def _make(self, found: Candidates, placement: Placement) -> Detections:
        return Detections(found, placement, self._reading.spec.labels)

    def _worked_on(self, jobs: Sequence[Job]) -> list[Any]:
        """The jobs' results. Runs on the caller's thread, so another may close the model meanwhile."""
        self._ready()
        try:
            batcher = self._batcher
        except AttributeError:
            raise BadInput("The model was closed.") from None
        return batcher.run(jobs)

    def _encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        assert self._texts is not None
        return self._texts[1].encode(texts)


def find_engine(path: Path) -> Path:
    """The engine of a model.

    Args:
        path: the engine itself, or the folder it lies in.

    Raises:
        BadInput: there is none, or there are several.
    """
    if not path.is_dir():
        return path
    found = [file for file in sorted([*path.glob("*.engine"), *path.glob("*.plan")]) if not is_text(file)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(f"{path} holds no .engine file.", param="model")
    names = ", ".join(file.name for file in found)
    raise BadInput(f"{path} holds several engines: {names}.", hint="Name the one to load.", param="model")


def _lanes_of(engine: Path) -> int:
    """How many lanes an engine is given unasked: two, where it can share its profile between them."""
    shares = not differences(_sdk.version()).profile_sharing or read_engine(engine).record is not None
    return 2 if shares else 1


def _graph(session: Session) -> VisionGraph:
    """The engine as the description of vision models reads it: the sidecar's words, or those of files beside it."""
    record = session.record
    told = dict(record.description) if record is not None else {}
    folder = session.path.parent
    return VisionGraph(
        session.path,
        tuple(Tensor(one.name, one.shape, one.dtype) for one in session.inputs),
        tuple(Tensor(one.name, one.shape, one.dtype) for one in session.outputs),
        session.metadata,
        told or read_json(folder / "config.json"),
        {} if told else read_json(folder / "preprocessor_config.json"),
    )
