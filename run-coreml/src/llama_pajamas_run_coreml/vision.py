"""Vision models through Core ML: detection, instance masks, classification, image and text embeddings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.types.vision import VisionSpec
from llama_pajamas_run_coreml._session import Session
from llama_pajamas_run_coreml._text import TextEncoder
from llama_pajamas_run_coreml.description import IMAGE, PREFIX, TEXT, TOKENIZER, VisionDescription, from_metadata
from llama_pajamas_run_coreml.files import find_package
from llama_pajamas_run_coreml.foreign import read_foreign

_RUNNING: Final = ("compute_units", "quick_start")


class CoreMLVisionBackend(VisionBackend):
    """A vision model in Core ML.

    Understood without options: packages that ``llama-pajamas export coreml`` made, and detectors, classifiers and
    maskers that Ultralytics exported as ML Programs without suppression of doubles (``nms=False``). For other ML
    Programs the options say what nothing else does.

    Args:
        model: the .mlpackage or .mlmodelc, or a folder with ``image.mlpackage`` and, for texts, ``text.mlpackage`` and
            ``tokenizer.json``.
        options: ``compute_units`` and ``quick_start`` as in :class:`~llama_pajamas_run_coreml._session.Session`; for a
            package that does not describe itself ``task``, ``labels``, ``size``, ``resize``, ``mean``, ``std``,
            ``head`` and ``crop`` as in :class:`~llama_pajamas_run_core.artifacts.vision.spec.Options`.

    Raises:
        BadInput: there is no such package, an option is senseless, or nothing tells how to use the model.
        LoadError: a file is damaged or missing, or Core ML cannot load it.
        OutOfMemory: the model does not fit.
        Unsupported: this is no Mac, or a kind of model that is not understood.
    """

    runtime = "coreml"

    _session: Session
    _description: VisionDescription
    _texts: TextEncoder | None

    def _load(self, path: Path, **options: Any) -> None:
        running = {name: options.pop(name) for name in _RUNNING if name in options}
        package = find_package(path, IMAGE)
        session = Session(package, **running)
        texts = None
        try:
            description = _described(session, options)
            if package != path and "embed" in description.spec.tasks and (path / TOKENIZER).is_file():
                texts = TextEncoder(find_package(path, TEXT), path / TOKENIZER, **running)
            elif "embed_text" in description.spec.tasks:
                raise LoadError(
                    f"{package} belongs to a text encoder, which is not there.",
                    hint=f"Load the folder that holds {package.name}, {TEXT}.mlpackage and {TOKENIZER}.",
                )
        except BaseException:
            session.close()
            raise
        self._session, self._description, self._texts = session, description, texts

    def _unload(self) -> None:
        self._session.close()
        if self._texts is not None:
            self._texts.close()
        del self._session
        self._texts = None

    @property
    def spec(self) -> VisionSpec:
        """What the loaded model expects and what its outputs mean."""
        self._ready()
        return self._description.spec

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the package's outputs that the head reads, in the order in which it reads them."""
        self._ready()
        return self._description.outputs

    @property
    def details(self) -> Mapping[str, Any]:
        """The compute units it runs on, how its weights are stored, and what it does."""
        if not self.loaded:
            return {}
        spec, origin = self._description.spec, self._description.origin
        return {
            **self._session.details,
            "input": [max(self._description.batches), 3, spec.height, spec.width],
            "precision": origin.precision,
            "compression": origin.compression,
            "tasks": sorted(spec.tasks),
            "head": spec.head,
            "classes": len(spec.labels),
        }

    def _infer(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        made: list[Sequence[npt.NDArray[Any]]] = []
        most = max(self._description.batches)
        for start in range(0, len(batch), most):
            made.append(self._predict(batch[start : start + most]))
        return [np.concatenate(parts) for parts in zip(*made, strict=True)]

    def _encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        assert self._texts is not None
        return self._texts.encode(texts)

    def _predict(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        """The outputs for no more images than one prediction takes."""
        about, count = self._description, len(batch)
        if about.image_input:
            outputs = self._session.predict({about.input: to_pixels(batch[0], about.spec)})
        else:
            takes = next(size for size in about.batches if size >= count)
            filling = np.zeros((takes - count, *batch.shape[1:]), np.float32)
            outputs = self._session.predict({about.input: np.concatenate([batch, filling]) if takes > count else batch})
        missing = [name for name in about.outputs if name not in outputs]
        if missing:
            raise LoadError(f"{self._session.path} gives no output '{missing[0]}'.", hint="Export it again.")
        return [_batched(outputs[name])[:count] for name in about.outputs]


def _described(session: Session, options: Mapping[str, Any]) -> VisionDescription:
    if f"{PREFIX}kind" not in session.metadata:
        return read_foreign(session, options)
    if options:
        raise BadInput(
            f"{session.path.name} describes itself and takes no options {', '.join(sorted(options))}.",
            hint=f"There are: {', '.join(_RUNNING)}.",
        )
    description = from_metadata(session.metadata, str(session.path))
    if not isinstance(description, VisionDescription):
        raise Unsupported(
            f"{session.path} is a {description.kind}, which does not look at images.",
            hint="A text encoder belongs to an image encoder: load the folder of both.",
            param="model",
        )
    return description


def to_pixels(picture: npt.NDArray[np.float32], spec: VisionSpec) -> npt.NDArray[np.uint8]:
    """The image [height, width, 3] that was normalized to float32 [3, height, width]."""
    mean, std = (np.array(three, np.float32).reshape(3, 1, 1) for three in (spec.mean, spec.std))
    plain = np.rint((picture * std + mean) * 255)
    return np.ascontiguousarray(np.clip(plain, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _batched(output: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return output.astype(np.float32) if output.dtype == np.float16 else output
