"""Running the server."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable

import uvicorn

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.pool import ModelPool
from llama_pajamas_run_core.server.app import REQUESTS_SHARE, create_app
from llama_pajamas_run_core.server.connection import Connection
from llama_pajamas_run_core.server.settings import Settings

_log = logging.getLogger(__name__)

#: The most bytes of a request's line and headers.
_HEADERS = 64 * 1024
#: Connections that may wait to be accepted.
_BACKLOG = 512


class Server:
    """One running server.

    Args:
        pool: loads and shares the models of its catalogue; it is closed with the server.
        settings: how the server behaves.
        monitor: watches the hardware; one of this machine if None.

    Raises:
        BadInput: the port is in use, the address is not this machine's, or the server would stand open to the network.
    """

    def __init__(self, pool: ModelPool, settings: Settings | None = None, *, monitor: Monitor | None = None) -> None:
        self.settings = settings or Settings()
        _check(self.settings)
        self._socket = bind(self.settings.host, self.settings.port)
        config = uvicorn.Config(
            create_app(pool=pool, settings=self.settings, monitor=monitor),
            http=Connection,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            h11_max_incomplete_event_size=_HEADERS,
            timeout_graceful_shutdown=max(round(self.settings.drain_timeout * REQUESTS_SHARE), 1),
            timeout_keep_alive=75,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """Where it is to be found."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, ready: Callable[[str], None] | None = None) -> None:
        """Serve until the process is told to stop (SIGINT, SIGTERM): running requests get the settings' time to finish.

        Args:
            ready: called with the address once requests are accepted.
        """
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self.serve(ready))

    async def serve(self, ready: Callable[[str], None] | None = None) -> None:
        """As :meth:`run`, within an event loop."""
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        try:
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.01)
            if self._server.started:
                _log.info("listening on %s", self.url)
                if ready is not None:
                    ready(self.url)
            await serving
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Begin to stop; from any thread."""
        self._server.should_exit = True


def serve(pool: ModelPool, settings: Settings | None = None, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until the process is told to stop. Arguments and errors as for :class:`Server` and :meth:`Server.run`."""
    Server(pool, settings).run(ready)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        BadInput: the port is in use or may not be used, or the address is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise BadInput(f"A port is from 0 to 65535, not {port}.", param="port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise BadInput(
            f"There is no address '{host}'.", hint="Choose another: --host 127.0.0.1", param="host"
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        # On Windows this option would let two servers share a port.
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        other = f"Choose another: --port {port + 1 if 0 < port < 65535 else 8000}"
        if error.errno == errno.EADDRINUSE:
            message = f"The port {port} on {host} is already in use by another program."
            raise BadInput(message, hint=other, param="port") from None
        if error.errno == errno.EACCES:
            raise BadInput(f"This user may not listen on port {port}.", hint=other, param="port") from None
        message = f"The server cannot listen on {host}: {error.strerror}."
        raise BadInput(message, hint="Choose an address of this machine: --host 127.0.0.1", param="host") from None
    return listener


def _check(settings: Settings) -> None:
    if not settings.loopback and not settings.api_keys and not settings.insecure:
        raise BadInput(
            f"Listening on {settings.host} would let everybody on the network use the server.",
            hint="Set an API key (--api-key), listen on 127.0.0.1, or insist with --insecure.",
            param="host",
        )
