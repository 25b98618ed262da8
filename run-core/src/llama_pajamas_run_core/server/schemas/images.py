"""``/v1/images/detect``, ``/classify`` and ``/embed``, and LocalAI's ``/v1/detection``."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llama_pajamas_run_core.dsp.outlines import coco_rle, outlines
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.schemas.base import Int, Wire
from llama_pajamas_run_core.server.schemas.embeddings import Encoding
from llama_pajamas_run_core.types.vision import Classification, Detection, DetectOptions, Image, Mask

Fraction = Annotated[float, Field(ge=0, le=1)]
#: How masks are told: COCO's compressed run lengths, or polygons.
MaskForm = Literal["rle", "polygons"]


class DetectFields(BaseModel):
    """How to detect; the same in JSON and in a form."""

    model: str | None = None
    confidence: Fraction | None = None
    iou: Fraction | None = None
    max_detections: Annotated[Int, Field(ge=1, le=10_000)] | None = None
    classes: Annotated[list[str | Int], Field(max_length=1000)] | None = None
    masks: MaskForm | None = None

    @property
    def ability(self) -> Literal["detect", "segment"]:
        """What a model has to be able to do."""
        return "detect" if self.masks is None else "segment"

    def to_core(self, labels: tuple[str, ...]) -> DetectOptions:
        """The core's options.

        Args:
            labels: the model's class names; classes may be given by name or by number.

        Raises:
            BadInput: there is no such class.
        """
        plain = DetectOptions()
        return DetectOptions(
            plain.confidence if self.confidence is None else self.confidence,
            plain.iou if self.iou is None else self.iou,
            plain.max_detections if self.max_detections is None else self.max_detections,
            None if self.classes is None else tuple(_class_id(wanted, labels) for wanted in self.classes),
        )


def _class_id(wanted: str | int, labels: tuple[str, ...]) -> int:
    if wanted in labels:
        return labels.index(str(wanted))
    if isinstance(wanted, int) or (wanted.isascii() and wanted.isdecimal() and len(wanted) < 9):
        number = int(wanted)
        if 0 <= number < len(labels):
            return number
    shown = ", ".join(labels[:40]) + (", ..." if len(labels) > 40 else "")
    raise BadInput(f"There is no class '{str(wanted)[:40]}'.", hint=f"Classes: {shown}.", param="classes")


class DetectRequest(Wire, DetectFields):
    """A picture to find objects in: a data URL or base64."""

    image: str


class DetectForm(DetectFields):
    """A picture to find objects in, as an upload."""

    model_config = ConfigDict(extra="ignore")
    file: bytes

    @field_validator("classes", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        items = value if isinstance(value, list) else [value]
        return [part.strip() for item in items for part in str(item).split(",") if part.strip()]


class LocalDetectRequest(Wire):
    """LocalAI's detection request."""

    model: str | None = None
    image: str
    threshold: Fraction | None = None


class ClassifyRequest(Wire):
    """A picture to be named."""

    model: str | None = None
    image: str
    top: Annotated[Int, Field(ge=1, le=1000)] = 5


class ClassifyForm(BaseModel):
    """A picture to be named, as an upload."""

    model_config = ConfigDict(extra="ignore")
    model: str | None = None
    file: bytes
    top: Annotated[int, Field(ge=1, le=1000)] = 5


class ImageEmbedRequest(Wire):
    """Pictures, or texts, to be mapped to vectors of one space."""

    model: str | None = None
    image: str | Annotated[list[str], Field(min_length=1, max_length=16)] | None = None
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)] | None = None
    encoding_format: Encoding | None = None
    dimensions: Annotated[Int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "ImageEmbedRequest":
        if (self.image is None) == (self.input is None):
            raise BadInput("Give either 'image' (pictures) or 'input' (texts).", param="image")
        return self


class ImageEmbedForm(BaseModel):
    """A picture to be mapped to a vector, as an upload."""

    model_config = ConfigDict(extra="ignore")
    model: str | None = None
    file: bytes
    encoding_format: Encoding | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


def detections(
    model: str, image: Image, found: Sequence[Detection], timing: dict[str, float], *, masks: MaskForm | None = None
) -> dict[str, Any]:
    """What was found, the surest first, in the upright picture's own pixels."""
    data = [
        {
            "class_id": item.class_id,
            "label": item.label,
            "confidence": round(item.confidence, 6),
            "box": {name: round(float(getattr(item.box, name)), 3) for name in ("x1", "y1", "x2", "y2")},
            **_shape(item.mask, masks),
        }
        for item in sorted(found, key=lambda item: -item.confidence)
    ]
    return {"object": "list", "model": model, "image": _size(image), "data": data, "timing": timing}


def _shape(mask: Mask | None, form: MaskForm | None) -> dict[str, Any]:
    """A mask as COCO's annotations have it: ``segmentation``, either of its forms, and ``area`` in pixels."""
    if mask is None or form is None:
        return {}
    if form == "rle":
        return {"segmentation": coco_rle(mask), "area": mask.area}
    polygons = [ring.reshape(-1).tolist() for ring in outlines(mask)]
    return {"segmentation": polygons, "area": mask.area}


def local_detections(found: Sequence[Detection]) -> dict[str, Any]:
    """The same in LocalAI's shape: the upper left corner with width and height, in pixels."""
    return {
        "detections": [
            {
                "x": round(item.box.x1, 3),
                "y": round(item.box.y1, 3),
                "width": round(item.box.x2 - item.box.x1, 3),
                "height": round(item.box.y2 - item.box.y1, 3),
                "confidence": round(item.confidence, 6),
                "class_name": item.label,
            }
            for item in found
        ]
    }


def classifications(model: str, image: Image, found: list[Classification], timing: dict[str, float]) -> dict[str, Any]:
    """What a picture shows, the likeliest first."""
    data = [{"class_id": item.class_id, "label": item.label, "confidence": round(item.confidence, 6)} for item in found]
    return {"object": "list", "model": model, "image": _size(image), "data": data, "timing": timing}


def _size(image: Image) -> dict[str, int]:
    return {"width": image.width, "height": image.height}
