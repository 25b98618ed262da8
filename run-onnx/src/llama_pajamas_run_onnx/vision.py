"""Vision models through ONNX Runtime: detection in YOLO's layouts, classification, image and text embeddings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.vision import VisionSpec
from llama_pajamas_run_onnx._session import Session
from llama_pajamas_run_onnx._text import TextEncoder
from llama_pajamas_run_onnx.files import find_files
from llama_pajamas_run_onnx.spec import Options, Reading, read_spec


class ONNXVisionBackend(VisionBackend):
    """A vision model in ONNX.

    Understood without options: the project's starter models, graphs exported by Ultralytics (YOLOv8, YOLO11; with or
    without suppression of doubles inside) and Hugging Face folders of classifiers, image encoders and CLIP. For other
    graphs the options say what nothing else does.

    Args:
        model: the .onnx file, or the folder it lies in.
        options: ``task``, ``labels``, ``size``, ``resize``, ``mean``, ``std`` and ``head`` as in
            :class:`~llama_pajamas_run_onnx.spec.Options`; ``device``, ``providers`` and ``threads`` as in
            :class:`~llama_pajamas_run_onnx._session.Session`.

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
        running = {name: options.pop(name) for name in ("device", "providers", "threads") if name in options}
        files = find_files(path)
        described = _described_by(options)
        session = Session(files.image, **running)
        both = any(one.name == "input_ids" for one in session.inputs)
        with_text = files.tokenizer is not None and (files.text is not None or both)
        self._reading = read_spec(files, session, described, texts=with_text)
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
        reading, count = self._reading, len(batch)
        if reading.batch is not None and count < reading.batch:  # a graph for a fixed number of images
            batch = np.concatenate([batch, np.zeros((reading.batch - count, *batch.shape[1:]), np.float32)])
        if reading.channels_last:
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        feeds: dict[str, npt.NDArray[Any]] = {reading.pixels.name: batch}
        for one in self._session.inputs:
            if one.name not in feeds:  # the text half of a graph that holds both
                feeds[one.name] = np.ones([one.size(0) or 1, one.size(1) or 2], np.int64)
        output = self._session.run(feeds)[reading.output][:count]
        return [self._trimmed(output)]

    def _encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        assert self._texts is not None
        return self._texts.encode(texts)

    def _trimmed(self, output: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of an output that the base class reads."""
        head, channels = self._reading.spec.head, self._reading.channels
        if head == "embedding" and output.ndim == 3:
            return output[:, 0]  # the class token
        if head == "nms":
            return output[..., :6]
        if head == "yolov8" and channels is not None and output.ndim == 3 and channels not in output.shape[1:]:
            axis = 1 if output.shape[1] < output.shape[2] else 2
            return output.take(range(channels), axis)
        return output


def _described_by(options: dict[str, Any]) -> Options:
    known = Options.__slots__
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise BadInput(
            f"Unknown options: {', '.join(unknown)}.",
            hint=f"There are: {', '.join((*known, 'device', 'providers', 'threads'))}.",
        )
    return Options(**options)
