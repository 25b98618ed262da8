"""Pictures, and what is seen in them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

VisionTask = Literal["detect", "segment", "classify", "embed", "embed_text"]
#: How raw outputs are read; :class:`VisionSpec` says what each is.
Head = Literal[
    "yolov8", "yolov8-seg", "nms", "nms-seg", "boxes", "efficient-nms", "logits", "probabilities", "embedding"
]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A picture, upright.

    Attributes:
        pixels: uint8 sRGB, shape [height, width, 3], channel order red, green, blue.
    """

    pixels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            raise TypeError(f"pixels must be uint8 [height, width, 3], not {self.pixels.dtype} {self.pixels.shape}")
        if 0 in self.pixels.shape:
            raise ValueError("an image needs at least one pixel")

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in the original image's pixels: x to the right, y down, corners at pixel edges."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Which pixels of an image belong to an object.

    Only the rectangle around the object is held: what lies outside it is no part of the object.
    :mod:`llama_pajamas_run_core.dsp.outlines` makes outlines and COCO's run lengths of it.

    Attributes:
        part: bool [h, w], True for the object's pixels; may be of no size.
        left: column of the image in which the part begins.
        top: row of the image in which the part begins.
        width: the image's width in pixels.
        height: the image's height in pixels.
    """

    part: npt.NDArray[np.bool_]
    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.part.ndim != 2 or self.part.dtype != np.bool_:
            raise TypeError(f"part must be bool [height, width], not {self.part.dtype} {self.part.shape}")
        bottom, right = self.top + self.part.shape[0], self.left + self.part.shape[1]
        if min(self.left, self.top) < 0 or right > self.width or bottom > self.height:
            raise ValueError("a mask's part must lie inside its image")

    @property
    def area(self) -> int:
        """How many pixels belong to the object."""
        return int(np.count_nonzero(self.part))

    def full(self) -> npt.NDArray[np.bool_]:
        """The mask of the whole image: bool [height, width]."""
        made = np.zeros((self.height, self.width), np.bool_)
        made[self.top : self.top + self.part.shape[0], self.left : self.left + self.part.shape[1]] = self.part
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return False
        place = (self.left, self.top, self.width, self.height)
        return place == (other.left, other.top, other.width, other.height) and np.array_equal(self.part, other.part)

    def __hash__(self) -> int:
        return hash((self.left, self.top, self.width, self.height, self.part.shape))


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found.

    Attributes:
        class_id: index into the model's labels.
        label: the class's name.
        confidence: 0 to 1.
        box: where it is, in the original image's pixels.
        mask: which pixels are its own, where that was asked for (``segment``); else None.
    """

    class_id: int
    label: str
    confidence: float
    box: Box
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """How to detect.

    Attributes:
        confidence: objects below this score (0 to 1) are left out.
        iou: two boxes of one class that overlap by more than this intersection over union (0 to 1) count as one.
        max_detections: the most objects returned for an image.
        classes: only these class ids, or None for all.
    """

    confidence: float = 0.25
    iou: float = 0.45
    max_detections: int = 300
    classes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """One candidate class of an image.

    Attributes:
        class_id: index into the model's labels.
        label: the class's name.
        confidence: probability, 0 to 1; over all classes they sum to 1.
    """

    class_id: int
    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """What a vision model expects and what its outputs mean.

    Attributes:
        tasks: what the model can do; "embed_text" where a text encoder maps into the same space as the images.
        width: input width in pixels.
        height: input height in pixels.
        resize: how an image is brought to that size: "letterbox" keeps the aspect and pads with gray (114), "stretch"
            does not keep it, "crop" scales the shorter side and cuts the centre.
        mean: subtracted from each channel after scaling to 0..1.
        std: divides each channel after that.
        labels: class names, by class id.
        head: how raw outputs are read: "yolov8" (also YOLO11), "nms" (end-to-end [n, 6] boxes), the same two with masks
            "yolov8-seg" and "nms-seg", "boxes" (boxes, labels and scores in outputs of their own, as torchvision's
            Faster R-CNN gives them), "efficient-nms" (TensorRT's EfficientNMS_TRT), "logits", "probabilities" or
            "embedding".
        dynamic_batch: whether several images go through the model at once; else the base passes one at a time.
        crop: for the resize "crop", which part of the shorter side is kept; 0.875 where 224 of 256 pixels are.
    """

    tasks: frozenset[VisionTask]
    width: int
    height: int
    resize: Literal["letterbox", "stretch", "crop"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    labels: tuple[str, ...] = ()
    head: Head = "yolov8"
    dynamic_batch: bool = True
    crop: float = 1.0
