"""``/v1/images/detect``, ``/classify`` and ``/embed``, and LocalAI's ``/v1/detection``."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from json import loads
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import Response

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.codecs.image import decode_image
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.errors import as_bad_input
from llama_pajamas_run_core.server.feed import while_connected
from llama_pajamas_run_core.server.media import naming, read_image
from llama_pajamas_run_core.server.routes.audio import read_upload
from llama_pajamas_run_core.server.schemas import images as wire
from llama_pajamas_run_core.server.schemas.embeddings import cut, reply
from llama_pajamas_run_core.server.services import Served, Services
from llama_pajamas_run_core.server.wire import Json, dump
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import Detection, DetectOptions, Image

router = APIRouter(prefix="/v1", tags=["images"])

J = TypeVar("J", bound=BaseModel)
F = TypeVar("F", bound=BaseModel)
T = TypeVar("T")


def _accepts(json: type[BaseModel], form: type[BaseModel]) -> dict[str, Any]:
    """The two kinds of body, for the OpenAPI description."""

    def schema(model: type[BaseModel]) -> dict[str, Any]:
        return {"schema": model.model_json_schema()}

    content = {"application/json": schema(json), "multipart/form-data": schema(form)}
    return {"requestBody": {"required": True, "content": content}}


@router.post("/images/detect", openapi_extra=_accepts(wire.DetectRequest, wire.DetectForm))
async def detect(request: Request, services: Served) -> Response:
    """Find objects in a picture; with ``masks`` the pixels that are each one's own too."""
    body = await _body(request, services, wire.DetectRequest, wire.DetectForm)
    entry = services.model_for(Task.VISION, body.model, body.ability)
    clock = _Clock()
    image = await _image(body, services)
    clock.lap("decode")

    def work(vision: VisionBackend) -> Sequence[Detection]:
        look = vision.detect if body.masks is None else vision.segment
        return look([image], body.to_core(vision.spec.labels))[0]

    found = await _look(request, services, entry, work, clock)
    if body.masks is None:
        return Json(wire.detections(entry.id, image, found, clock.laps))
    shapes = await services.workers.decode(
        lambda: dump(wire.detections(entry.id, image, found, clock.laps, masks=body.masks))
    )
    return Response(shapes, media_type="application/json")


@router.post("/detection")
async def local_detect(body: wire.LocalDetectRequest, request: Request, services: Served) -> Response:
    """Find objects in a picture, in LocalAI's shape."""
    entry = services.model_for(Task.VISION, body.model, "detect")
    image = await _image(body, services)
    options = DetectOptions() if body.threshold is None else DetectOptions(confidence=body.threshold)
    found = await _look(request, services, entry, lambda vision: vision.detect([image], options)[0], _Clock())
    return Json(wire.local_detections(found))


@router.post("/images/classify", openapi_extra=_accepts(wire.ClassifyRequest, wire.ClassifyForm))
async def classify(request: Request, services: Served) -> Response:
    """Say what a picture shows."""
    body = await _body(request, services, wire.ClassifyRequest, wire.ClassifyForm)
    entry = services.model_for(Task.VISION, body.model, "classify")
    clock = _Clock()
    image = await _image(body, services)
    clock.lap("decode")
    found = await _look(request, services, entry, lambda vision: vision.classify([image], top=body.top)[0], clock)
    return Json(wire.classifications(entry.id, image, found, clock.laps))


@router.post("/images/embed", openapi_extra=_accepts(wire.ImageEmbedRequest, wire.ImageEmbedForm))
async def embed(request: Request, services: Served) -> Response:
    """Map pictures, or texts, to vectors of one space."""
    body = await _body(request, services, wire.ImageEmbedRequest, wire.ImageEmbedForm)
    entry = services.model_for(Task.VISION, body.model, "embed")
    clock = _Clock()
    if isinstance(body, wire.ImageEmbedRequest) and body.input is not None:
        texts = [body.input] if isinstance(body.input, str) else body.input
        work: Callable[[VisionBackend], npt.NDArray[np.float32]] = lambda vision: vision.embed_text(texts)  # noqa: E731
    else:
        images = await _images(body, services)
        clock.lap("decode")
        work = lambda vision: vision.embed(images)  # noqa: E731
    vectors = await _look(request, services, entry, work, clock)
    shorter = cut(vectors, body.dimensions)
    made = reply(shorter, model=entry.id, encoding=body.encoding_format, tokens=0, timing=clock.laps)
    return Response(await services.workers.decode(lambda: dump(made)), media_type="application/json")


async def _look(
    request: Request,
    services: Services,
    entry: ModelEntry,
    work: Callable[[VisionBackend], T],
    clock: "_Clock",
) -> T:
    async def leased() -> T:
        async with services.lease(entry, Task.VISION) as vision:
            clock.lap("queue")
            result = await services.workers.call(partial(work, vision))
            clock.lap("infer")
            return result

    return await while_connected(request, leased(), services.metrics.disconnect)


async def _body(request: Request, services: Services, json: type[J], form: type[F]) -> J | F:
    """The request's body, whichever of the two it is.

    Raises:
        BadInput: it is neither, or not as it should be.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content: Any = None
    try:
        if kind == "multipart/form-data":
            content = await _fields(request, services)
            return form.model_validate(content)
        raw = await request.body()
        if kind != "application/json" or not raw:
            raise BadInput("The request needs a JSON body or a multipart form with a file.")
        content = loads(raw)
        return json.model_validate(content)
    except ValidationError as error:
        raise as_bad_input(error.errors(include_url=False, include_input=False), content) from None
    except (ValueError, RecursionError):
        raise BadInput("The body is not valid JSON.") from None


async def _fields(request: Request, services: Services) -> dict[str, Any]:
    """The fields of a form; of a file, its bytes."""
    async with request.form(max_files=1, max_fields=64) as form:
        fields: dict[str, Any] = {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                fields[name] = await read_upload(value, services)
            elif name.startswith("classes"):
                fields.setdefault("classes", []).append(value)
            elif name != "file":  # a file that is text was not uploaded
                fields[name] = value
        return fields


async def _image(body: BaseModel, services: Services) -> Image:
    return (await _images(body, services))[0]


async def _images(body: BaseModel, services: Services) -> list[Image]:
    """The pictures of a body: one that was uploaded, or those within the JSON."""
    if isinstance(body, (wire.DetectForm, wire.ClassifyForm, wire.ImageEmbedForm)):
        data = body.file
        with naming("file"):
            return [await services.workers.decode(lambda: decode_image(data, services.settings.limits.decoded))]
    assert isinstance(body, (wire.DetectRequest, wire.LocalDetectRequest, wire.ClassifyRequest, wire.ImageEmbedRequest))
    given = body.image
    sources = {"image": given} if isinstance(given, str) else {f"image[{i}]": url for i, url in enumerate(given or ())}

    def read() -> list[Image]:
        return [read_image(source, services.settings, param=name) for name, source in sources.items()]

    return await services.workers.decode(read)


class _Clock:
    """How long each stage took, in milliseconds."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[f"{stage}_ms"] = round((now - self._last) * 1000, 3)
        self._last = now

    @property
    def laps(self) -> dict[str, float]:
        return {**self._laps, "total_ms": round((time.perf_counter() - self._start) * 1000, 3)}
