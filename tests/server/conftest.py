"""A server of fakes: within the process over ASGI, and behind a real socket."""

import asyncio
import contextlib
import io
import threading
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support.gpu_pool import Hardware

from llama_pajamas_run_core.pool import ModelPool
from llama_pajamas_run_core.server.app import create_app
from llama_pajamas_run_core.server.run import Server
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.testing.fakes import fake_catalogue, fake_planner


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def make_client(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Makes clients of servers within the process: ``await make_client(settings, options={...}, **pool)``."""
    async with contextlib.AsyncExitStack() as stack:
        count = 0

        async def make(
            settings: Settings | None = None,
            *,
            entries: Any = (),
            options: Any = None,
            monitor: Any = None,
            planner: Any = None,
            **how: Any,
        ) -> Any:
            nonlocal count
            count += 1
            catalogue = fake_catalogue(tmp_path / str(count), *entries)
            pool = ModelPool(catalogue, planner or fake_planner(options), **how)
            app = create_app(pool=pool, settings=settings, monitor=monitor or Hardware().monitor)
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=20)
            return await stack.enter_async_context(client)

        yield make


@pytest.fixture
async def client(make_client: Callable[..., Any]) -> httpx.AsyncClient:
    """A client of a server with the standard fakes."""
    made = await make_client()
    assert isinstance(made, httpx.AsyncClient)
    return made


@dataclass
class Live:
    """A server behind a socket.

    Attributes:
        url: where it is.
        pool: its models.
        server: the server.
    """

    url: str
    pool: ModelPool
    server: Server

    def idle(self) -> bool:
        """Whether nothing is being worked on."""
        return not any(status.users or status.waiting for status in self.pool.status())


@contextlib.contextmanager
def running(root: Path, settings: Settings | None = None, *, options: Any = None, **how: Any) -> Iterator[Live]:
    pool = ModelPool(fake_catalogue(root), fake_planner(options), **how)
    server = Server(pool, settings or Settings(port=0), monitor=Hardware().monitor)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(lambda url: ready.set())), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield Live(server.url, pool, server)
    finally:
        server.stop()
        thread.join(15)
        assert not thread.is_alive()


@pytest.fixture
def make_live(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """Makes servers behind sockets: ``make_live(settings, options={...})``."""
    with contextlib.ExitStack() as stack:
        yield lambda settings=None, **how: stack.enter_context(running(tmp_path, settings, **how))


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server behind a socket with the standard fakes, shared by all tests."""
    with running(tmp_path_factory.mktemp("live")) as server:
        yield server


def make_wav(seconds: float = 2.0, rate: int = 16_000) -> bytes:
    """Bursts of a tone, a little like syllables."""
    times = np.arange(int(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * 300 * times) * (np.sin(2 * np.pi * 3 * times) > -0.5)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


@pytest.fixture(scope="session")
def wav() -> bytes:
    """Two seconds of sound."""
    return make_wav()


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """Makes pictures: ``png(width, height, (x1, y1, x2, y2), colour)``."""
    from PIL import Image

    def make(
        width: int = 200,
        height: int = 100,
        box: tuple[int, int, int, int] = (20, 30, 80, 70),
        colour: tuple[int, int, int] = (255, 0, 0),
        format: str = "PNG",
    ) -> bytes:
        image = Image.new("RGB", (width, height), (114, 114, 114))
        image.paste(colour, box)
        buffer = io.BytesIO()
        image.save(buffer, format)
        return buffer.getvalue()

    return make
