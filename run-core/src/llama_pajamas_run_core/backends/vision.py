"""The abstract vision backend."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.dsp.fit import Placement, fit
from llama_pajamas_run_core.dsp.heads import (
    Candidates,
    class_probabilities,
    read_candidates,
    suppress,
    top_classes,
    unit_vectors,
)
from llama_pajamas_run_core.dsp.masks import assemble_masks
from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.text.unicode import well_formed
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import (
    Classification,
    Detection,
    DetectOptions,
    Image,
    Mask,
    VisionSpec,
    VisionTask,
)

#: The most images that go through a model at once.
MAX_BATCH = 16


class VisionBackend(Backend):
    """A model that looks at images.

    A runtime writes :attr:`spec` and :meth:`_infer` (and :meth:`_encode_text` for a text encoder beside it); this class
    brings images to the model's size, reads its head and brings boxes back to the image's own pixels. A runtime that
    does the first two on its device overrides :meth:`_find` and :meth:`_look`.
    """

    task: ClassVar[Task] = Task.VISION

    @property
    @abstractmethod
    def spec(self) -> VisionSpec:
        """What the loaded model expects and what its outputs mean."""

    @abstractmethod
    def _infer(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        """Run the model. Runs on the owner thread.

        Args:
            batch: float32 [n, 3, height, width], normalized as :attr:`spec` says.

        Returns:
            the raw outputs, each with the n images in front, in the order that the head is read in
            (:func:`~llama_pajamas_run_core.dsp.heads.read_candidates`).
        """

    def _encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors [n, d] of texts, in the space of the images'. Only where the spec has "embed_text"."""
        raise Unsupported(f"{type(self).__name__} encodes no text.")

    def _find(self, images: Sequence[Image], options: DetectOptions, *, masks: bool) -> Sequence[Sequence[Detection]]:
        """What a detector finds.

        Args:
            images: at least one.
            options: thresholds and limits, checked.
            masks: whether each object's mask is wanted; only where the spec has "segment".

        Returns:
            for each image the objects, without doubles and the surest first, as :meth:`_detections` makes them.
        """
        found: list[list[Detection]] = []
        for outputs, placements in self._run(images):
            for index, placement in enumerate(placements):
                read = read_candidates([output[index] for output in outputs], self.spec, options)
                found.append(self._detections(suppress(read, self.spec, options), placement, masks=masks))
        return found

    def _detections(self, found: Candidates, placement: Placement, *, masks: bool) -> list[Detection]:
        """Boxes of the model's input as detections in the image's own pixels."""
        spec = self.spec
        labels, known = spec.labels, len(spec.labels)
        boxes = placement.restore_all(found.boxes)
        shapes: Sequence[Mask | None] = assemble_masks(found, boxes, placement, spec) if masks else (None,) * len(boxes)
        rows = zip(found.classes.tolist(), found.scores.tolist(), boxes, shapes, strict=True)
        return [
            Detection(which, labels[which] if which < known else str(which), score, box, mask)
            for which, score, box, mask in rows
        ]

    def _blank(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Zeros [height, width, 3] for :meth:`canvas`."""
        return np.zeros((height, width, 3), np.uint8)

    def _look(self, images: Sequence[Image]) -> npt.NDArray[Any]:
        """The first output [n, ...] of a classifier or an embedder for the images, of which there is at least one."""
        return np.concatenate([outputs[0][: len(placements)] for outputs, placements in self._run(images)])

    def canvas(self, width: int, height: int) -> Image:
        """A black picture to be drawn into, again and again: in memory that this runtime takes pixels from at once.

        For cameras and videos, whose frames are written somewhere anyway. Any other picture does as well; a runtime on
        a device may have to copy it first. It is not drawn into while a call looks at it.

        Args:
            width: in pixels.
            height: in pixels.

        Raises:
            BadInput: a size is less than one, or no model is loaded.
            OutOfMemory: there is no memory for it.
        """
        self._ready()
        if min(width, height) < 1:
            raise BadInput(f"A canvas is at least one pixel wide and high, not {width} by {height}.")
        return Image(self._blank(height, width))

    def detect(self, images: Sequence[Image], options: DetectOptions | None = None) -> Sequence[Sequence[Detection]]:
        """Find objects.

        Args:
            images: one or more.
            options: thresholds and limits.

        Returns:
            for each image its objects, the surest first, boxes in that image's own pixels.

        Raises:
            BadInput: an option is out of range, or no model is loaded.
            Unsupported: the model detects nothing.
        """
        return self._checked("detect", images, options or DetectOptions())

    def segment(self, images: Sequence[Image], options: DetectOptions | None = None) -> Sequence[Sequence[Detection]]:
        """Find objects with the pixels that belong to each.

        Args:
            images: one or more.
            options: thresholds and limits.

        Returns:
            what :meth:`detect` returns, and each detection has its mask.

        Raises:
            BadInput: an option is out of range, or no model is loaded.
            Unsupported: the model makes no masks.
        """
        return self._checked("segment", images, options or DetectOptions())

    def classify(self, images: Sequence[Image], *, top: int = 5) -> list[list[Classification]]:
        """Name what each image shows.

        Args:
            images: one or more.
            top: how many candidates to return for each.

        Returns:
            for each image the likeliest classes, the likeliest first.

        Raises:
            BadInput: ``top`` is less than one, or no model is loaded.
            Unsupported: the model classifies nothing.
        """
        self._need("classify")
        if top < 1:
            raise BadInput(f"top must be at least 1, not {top}.", param="top")
        _some(images)
        return self._rank(images, top)

    def _rank(self, images: Sequence[Image], top: int) -> list[list[Classification]]:
        """The likeliest classes of the images, of which there is at least one."""
        return self._named(class_probabilities(self._look(images), self.spec), top)

    def _named(self, probabilities: npt.NDArray[np.float32], top: int) -> list[list[Classification]]:
        """The likeliest classes of each row of probabilities."""
        named: list[list[Classification]] = []
        for row, order in zip(probabilities, top_classes(probabilities, top), strict=True):
            ranked = zip(order.tolist(), row[order].tolist(), strict=True)
            named.append([Classification(which, self._label(which), chance) for which, chance in ranked])
        return named

    def embed(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """Map images to vectors.

        Returns:
            float32 [n, d], each of Euclidean length 1.

        Raises:
            BadInput: no model is loaded.
            InferenceError: a vector is not finite.
            Unsupported: the model makes no image embeddings.
        """
        self._need("embed")
        _some(images)
        return unit_vectors(self._look(images))

    def embed_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Map texts to vectors in the space of the images'.

        Returns:
            float32 [n, d], each of Euclidean length 1.

        Raises:
            BadInput: a text is blank, or no model is loaded.
            InferenceError: a vector is not finite.
            Unsupported: the model has no text encoder.
        """
        owner = self._ready()
        self._need("embed_text")
        if isinstance(texts, str):
            raise BadInput("texts is a list; put a single text into one.", param="input")
        for index, text in enumerate(texts):
            if not text.strip():
                raise BadInput("A text to embed is empty.", param=f"input[{index}]")
        whole = [well_formed(text) for text in texts]
        return unit_vectors(owner.run(lambda: self._encode_text(whole)))

    def _run(self, images: Sequence[Image]) -> Iterator[tuple[Sequence[npt.NDArray[Any]], list[Placement]]]:
        owner, spec = self._ready(), self.spec
        size = MAX_BATCH if spec.dynamic_batch else 1
        for start in range(0, len(images), size):
            fitted = [fit(image, spec) for image in images[start : start + size]]
            batch = np.stack([pixels for pixels, _ in fitted])
            yield owner.run(lambda batch=batch: self._infer(batch)), [placement for _, placement in fitted]  # type: ignore[misc]

    def _need(self, task: VisionTask) -> None:
        self._ready()
        if task not in self.spec.tasks:
            can = ", ".join(sorted(self.spec.tasks))
            raise Unsupported(f"This model does not {task.replace('_', ' ')}; it does: {can}.", param="model")

    def _check(self, options: DetectOptions) -> None:
        for name in ("confidence", "iou"):
            if not 0 <= (value := getattr(options, name)) <= 1:
                raise BadInput(f"{name} must be from 0 to 1, not {value}.", param=name)
        if options.max_detections < 1:
            raise BadInput(f"max_detections must be at least 1, not {options.max_detections}.", param="max_detections")
        for wanted in options.classes or ():
            if not 0 <= wanted < len(self.spec.labels):
                last = len(self.spec.labels) - 1
                raise BadInput(f"There is no class {wanted}; classes are 0 to {last}.", param="classes")

    def _label(self, class_id: int) -> str:
        labels = self.spec.labels
        return labels[class_id] if class_id < len(labels) else str(class_id)

    def _checked(
        self, task: VisionTask, images: Sequence[Image], options: DetectOptions
    ) -> Sequence[Sequence[Detection]]:
        self._need(task)
        self._check(options)
        _some(images)
        return self._find(images, options, masks=task == "segment")


def _some(images: Sequence[Image]) -> None:
    if isinstance(images, Image):
        raise BadInput("images is a list; put a single image into one.", param="images")
    if not images:
        raise BadInput("There is no image.", param="images")
