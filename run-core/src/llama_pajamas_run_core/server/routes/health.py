"""``/health``, ``/ready``, ``/metrics`` and the index. None of them waits for, or wakes, a model."""

import time

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from llama_pajamas_run_core import __version__
from llama_pajamas_run_core.server.errors import NotFound, body_of
from llama_pajamas_run_core.server.metrics import MEDIA_TYPE
from llama_pajamas_run_core.server.services import Served
from llama_pajamas_run_core.server.wire import Json

router = APIRouter(tags=["server"])


@router.get("/")
async def index(request: Request) -> Response:
    """What the server is, and its endpoints."""
    return Json({"name": "llama-pajamas", "version": __version__, "endpoints": request.app.state.endpoints})


@router.get("/health")
async def health(services: Served) -> Response:
    """Whether the process is up."""
    loaded = [status.id for status in services.pool.status() if status.state == "loaded"]
    uptime = round(time.monotonic() - services.started, 3)
    return Json({"status": "ok", "version": __version__, "uptime": uptime, "loaded": loaded})


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
    return PlainTextResponse(services.metrics.text(services.pool.status()), media_type=MEDIA_TYPE)
