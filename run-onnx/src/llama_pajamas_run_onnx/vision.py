"""Vision models through ONNX Runtime: detection, instance masks, classification, image and text embeddings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.files import VisionFiles, find_files
from llama_pajamas_run_core.artifacts.vision.graph import VisionGraph
from llama_pajamas_run_core.artifacts.vision.spec import Options, Reading, read_spec
from llama_pajamas_run_core.artifacts.vision.text import TextEncoder
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.types.vision import VisionSpec
from llama_pajamas_run_onnx._session import Session

_RUNNING = ("device", "providers", "threads")


class ONNXVisionBackend(VisionBackend):
    """A vision model in ONNX.

    Understood without options: the project's starter models, graphs exported by Ultralytics (YOLOv8, YOLO11, with masks
    or without; with or without suppression of doubles inside) and Hugging Face folders of classifiers, image encoders
    and CLIP. For other graphs, torchvision's Faster R-CNN for one, the options say what nothing else does.

    Args:
        model: the .onnx file, or the folder it lies in.
        options: ``task``, ``labels``, ``size``, ``resize``, ``mean``, ``std``, ``head`` and ``crop`` as in
            :class:`~llama_pajamas_run_core.artifacts.vision.spec.Options`; ``device``, ``providers`` and ``threads`` as
            in :class:`~llama_pajamas_run_onnx._session.Session`.

    Raises:
        BadInput: there is no such file, an option is senseless, or nothing tells how to use the model.
        LoadError: a file is damaged or missing.
        OutOfMemory: the model does not fit.
        Unsupported: a kind of model that is not understood.
    """

    runtime = "onnx"

    _session: Session
    _reading: Reading
    _texts: TextEncoder | None

    def _load(self, path: Path, **options: Any) -> None:
        running = {name: options.pop(name) for name in _RUNNING if name in options}
        files = find_files(path)
        described = Options.of(options, also=_RUNNING)
        session = Session(files.image, **running)
        both = any(one.name == "input_ids" for one in session.inputs)
        with_text = files.tokenizer is not None and (files.text is not None or both)
        self._reading = read_spec(_graph(files, session), described, texts=with_text)
        self._texts = None
        if "embed_text" in self._reading.spec.tasks:
            self._texts = TextEncoder(files, session if files.text is None else Session(files.text, **running))
        self._session = session

    def _unload(self) -> None:
        del self._session
        self._texts = None

    @property
    def spec(self) -> VisionSpec:
        """What the loaded model expects and what its outputs mean."""
        self._ready()
        return self._reading.spec

    @property
    def details(self) -> Mapping[str, Any]:
        """The device it runs on, the graph's file and input, and what it does."""
        if not self.loaded:
            return {}
        session, spec = self._session, self._reading.spec
        dtype = self._reading.pixels.dtype
        return {
            "device": session.device,
            "provider": session.provider,
            "file": session.path.name,
            "input": [self._reading.batch or "batch", 3, spec.height, spec.width],
            "precision": dtype.__name__ if dtype is not None else "unknown",
            "tasks": sorted(spec.tasks),
            "head": spec.head,
            "classes": len(spec.labels),
        }

    def _infer(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        reading = self._reading
        feeds: dict[str, npt.NDArray[Any]] = {reading.pixels.name: reading.fed(batch)}
        for one in self._session.inputs:
            if one.name not in feeds:  # the text half of a graph that holds both
                feeds[one.name] = np.ones([one.size(0) or 1, one.size(1) or 2], np.int64)
        return reading.read(self._session.run(feeds), len(batch))

    def _encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        assert self._texts is not None
        return self._texts.encode(texts)


def _graph(files: VisionFiles, session: Session) -> VisionGraph:
    return VisionGraph(files.image, session.inputs, session.outputs, session.metadata, files.config, files.preprocessor)
