"""The application."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from llama_pajamas_run_core import __version__
from llama_pajamas_run_core.errors import Busy
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.pool import ModelPool
from llama_pajamas_run_core.server import errors
from llama_pajamas_run_core.server.middleware import BodyGuard, Envelope, HostGuard, KeyGuard
from llama_pajamas_run_core.server.routes import ROUTERS
from llama_pajamas_run_core.server.services import Services
from llama_pajamas_run_core.server.settings import Settings

_log = logging.getLogger(__name__)

#: The parts of the time for stopping that running requests get, and the unloading of the models.
REQUESTS_SHARE = 0.8
_MODELS_SHARE = 0.15


def create_app(
    *,
    pool: ModelPool,
    settings: Settings | None = None,
    close_pool: bool = True,
    monitor: Monitor | None = None,
) -> FastAPI:
    """Build the server's application.

    Args:
        pool: loads and shares the models of its catalogue.
        settings: how the server behaves.
        close_pool: whether the pool is closed when the application ends.
        monitor: watches the hardware while the application runs; one of this machine if None.
    """
    settings = settings or Settings()
    if monitor is None:
        monitor = Monitor(thresholds=settings.thresholds, interval=settings.watch_interval)
    services = Services(pool.catalogue, pool, settings, monitor=monitor)
    services.ready = not settings.preload

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        no_longer_heed = pool.heed(monitor)
        monitor.start()
        preloading = asyncio.create_task(_preload(services))
        try:
            yield
        finally:
            preloading.cancel()
            if close_pool:
                await pool.aclose(settings.drain_timeout * _MODELS_SHARE)
            no_longer_heed()
            await asyncio.to_thread(monitor.stop)  # at once, unless a driver hangs
            services.workers.close()

    app = FastAPI(
        title="llama-pajamas",
        version=__version__,
        lifespan=lifespan,
        docs_url="/docs" if settings.docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
        redirect_slashes=False,
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router)
    app.state.endpoints = sorted(_endpoints())
    errors.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyGuard, limit=settings.limits.body, patience=settings.request_timeout)
    app.add_middleware(KeyGuard, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id"],
        )
    app.add_middleware(HostGuard, settings=settings)
    app.add_middleware(Envelope, metrics=services.metrics)
    return app


def _endpoints() -> Iterator[str]:
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, Route):
                yield from (f"{method} {route.path}" for method in (route.methods or set()) - {"HEAD"})


async def _preload(services: Services) -> None:
    """Load the models that the server is to be ready with; what cannot be loaded keeps it from being ready."""
    for name in services.settings.preload:
        try:
            await _load(services, name)
        except Exception as error:
            _log.error("preloading %s failed: %s", name, error)
            services.trouble = str(errors.describe(error)["error"]["message"])
            return
    services.ready, services.trouble = True, None


async def _load(services: Services, name: str) -> None:
    """Load a model to stay; while the hardware is strained, try again and again."""
    while True:
        try:
            await services.pool.load(name, pin=True)
        except Busy as busy:
            _log.warning("preloading %s has to wait: %s", name, busy)
            services.trouble = str(errors.describe(busy)["error"]["message"])
            await asyncio.sleep(busy.retry_after)
        else:
            return
