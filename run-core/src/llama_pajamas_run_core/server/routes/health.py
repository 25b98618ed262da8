"""``/health``, ``/ready``, ``/metrics`` and the index. None of them waits for, or wakes, a model."""

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from llama_pajamas_run_core import __version__
from llama_pajamas_run_core.server.errors import NotFound, body_of
from llama_pajamas_run_core.server.metrics import MEDIA_TYPE
from llama_pajamas_run_core.server.services import Served, Services
from llama_pajamas_run_core.server.wire import Json

router = APIRouter(tags=["server"])


@router.get("/")
async def index(request: Request) -> Response:
    """What the server is, and its endpoints."""
    return Json({"name": "llama-pajamas", "version": __version__, "endpoints": request.app.state.endpoints})


@router.get("/health")
async def health(services: Served, request: Request) -> Response:
    """Whether the process is up; for those who may use the server, also what the hardware does."""
    loaded = [status.id for status in services.pool.status() if status.state == "loaded"]
    uptime = round(time.monotonic() - services.started, 3)
    body: dict[str, Any] = {"status": "ok", "version": __version__, "uptime": uptime, "loaded": loaded}
    if getattr(request.state, "known", False):
        body |= _hardware(services)
    return Json(body)


def _hardware(services: Services) -> dict[str, Any]:
    """The last reading and the warnings. Nothing is read for it: that is the monitor's business."""
    seen = services.monitor.watch()
    warnings = [{"kind": one.kind, "device": one.name, "message": one.message} for one in seen.alerts]
    if seen.reading is None:
        return {"warnings": warnings, "hardware": None}
    age = round(time.monotonic() - seen.reading.time, 3)
    return {"warnings": warnings, "hardware": {"age": age, **seen.reading.plain()}}


@router.get("/ready")
async def ready(services: Served) -> Response:
    """Whether the models named for preloading are loaded."""
    if services.ready:
        return Json({"status": "ready"})
    message = services.trouble or "Loading model"
    return Json(body_of(message, "server_error", code="not_ready"), 503, {"Retry-After": "1"})


@router.get("/metrics")
async def metrics(services: Served) -> Response:
    """Counts for Prometheus."""
    if not services.settings.metrics:
        raise NotFound("Metrics are switched off.")
    return PlainTextResponse(
        services.metrics.text(services.pool.status(), services.monitor.watch()), media_type=MEDIA_TYPE
    )
