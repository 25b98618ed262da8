"""One connection of the server: uvicorn's own, with an end to waiting and with errors in OpenAI's shape."""

import asyncio
import http
import sys
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from llama_pajamas_run_core.server.errors import body_of
from llama_pajamas_run_core.server.wire import dump

#: Seconds in which a request's line and headers have to arrive.
_PATIENCE: Final = 20.0


class Connection(H11Protocol):
    """Closes a connection on which no request comes; uvicorn would hold it for ever, and thousands of its kind."""

    _ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client is there; its request has to follow."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._expect(False)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A piece of a request; what comes after its headers is counted by ``middleware.BodyGuard``."""
        super().data_received(data)
        self._expect(self.conn.their_state is h11.IDLE)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has more headers than are read, and close the connection."""
        error = sys.exception()  # uvicorn calls this while it handles h11's error
        status = getattr(error, "error_status_hint", 400)
        message = "The request's headers are too large." if status == 431 else "The request is not valid HTTP."
        body = dump(body_of(message, "invalid_request_error"))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        reason = http.HTTPStatus(status).phrase.encode()
        try:
            for event in (h11.Response(status_code=status, headers=headers, reason=reason), h11.Data(data=body)):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # a reply has begun already
        self.transport.close()

    def _expect(self, on: bool = True) -> None:
        """Begin to wait for a request, or end it."""
        if on and self._ends is None:
            self._ends = self.loop.call_later(_PATIENCE, self.transport.close)
        elif not on and self._ends is not None:
            self._ends.cancel()
            self._ends = None
