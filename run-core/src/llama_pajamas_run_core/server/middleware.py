"""What happens to every request before its route sees it. Plain ASGI: nothing here buffers a stream."""

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_pajamas_run_core import errors
from llama_pajamas_run_core.server.errors import Forbidden, TooSlow, Unauthorized, respond
from llama_pajamas_run_core.server.metrics import Metrics
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.server.wire import Json

_log = logging.getLogger(__name__)

#: What a client may send as the id of its request.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
#: What anybody may ask for: it says no more than that the server lives.
_PUBLIC = frozenset({"/", "/health", "/ready"})
#: Seconds without a piece of a body after which the rest of it is no longer waited for.
_SILENCE: Final = 30.0
#: Digits that the length of a body may have at the most: Python refuses to read thousands of them.
_DIGITS: Final = 20


class Envelope:
    """The outermost layer: request id, time taken, metrics, and a reply for errors that nothing else caught.

    An error after the reply has begun is raised again: the server then drops the connection, which is the only way
    left to say that the body is not whole.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server itself leaves the body out
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        start = time.perf_counter()
        status = 0

        async def out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - start) * 1000))
            await send(message)

        try:
            await self._app(scope, receive, out)
        except Exception as error:
            if status:
                raise
            await respond(error)(scope, receive, out)
        finally:
            path, seconds = getattr(scope.get("route"), "path", "other"), time.perf_counter() - start
            self._metrics.request(path, status, seconds)
            _log.info("path=%s status=%d seconds=%.3f id=%s", path, status, seconds, request_id)


class HostGuard:
    """Turns away requests by other names than the server's own, and from pages of other origins.

    A page on the web can make a browser call a server on the loopback address, under a name that resolves to it.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._hosts = settings.hosts
        self._origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._problem(scope["method"], Headers(scope=scope))) is not None:
            await respond(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _problem(self, method: str, headers: Mapping[str, str]) -> errors.PajamasError | None:
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return Forbidden(
                "The server is not called by this name.",
                hint="Use localhost, or let the server answer to the name (--allow-host).",
            )
        origin = headers.get("origin")
        if origin is None or method in ("GET", "HEAD", "OPTIONS") or "*" in self._origins:
            return None
        if origin.lower() in self._origins or _address(origin) == host.lower():
            return None
        return Forbidden(
            "Pages of this origin may not call the server.", hint="Let the server take the origin's (--cors)."
        )


class KeyGuard:
    """Asks for an API key where any is set.

    Public paths answer without one; ``scope["state"]["known"]`` says whether the caller may be told more there.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "OPTIONS":
            problem = self._problem(Headers(scope=scope).get("authorization", "")) if self._keys else None
            scope.setdefault("state", {})["known"] = problem is None
            if problem is not None and scope["path"] not in _PUBLIC:
                await respond(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, header: str) -> Unauthorized | None:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return Unauthorized("An API key is needed: send 'Authorization: Bearer YOUR_KEY'.", code=None)
        given = key.strip().encode("latin-1")  # the bytes that were sent
        # All are compared, so that the time taken tells nothing.
        if not any([hmac.compare_digest(given, known) for known in self._keys]):
            return Unauthorized("The API key is not known to this server.", code="invalid_api_key")
        return None


class BodyGuard:
    """Stops reading a body that is longer than allowed, whatever its header says, or that does not come.

    Args:
        app: what reads the body.
        limit: bytes that it may have.
        patience: seconds in which all of it has to come.
    """

    def __init__(self, app: ASGIApp, *, limit: int, patience: float) -> None:
        self._app = app
        self._limit = limit
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (refusal := self._refusal(Headers(scope=scope))) is not None:
            await refusal(scope, receive, send)
            return
        body = _Body(receive, self._limit, self._patience)
        started = False

        async def out(message: Message) -> None:
            nonlocal started
            if body.exceeded and not started:
                return  # whatever the route made of the error: the reply is below
            started = True
            await send(message)

        try:
            await self._app(scope, body.receive, out)
        except errors.TooLarge:
            if not body.exceeded or started:
                raise
        if body.exceeded and not started:
            await self._too_large()(scope, receive, send)

    def _refusal(self, headers: Mapping[str, str]) -> Json | None:
        """What can be told from the headers alone."""
        if headers.get("content-encoding", "identity").lower() != "identity":
            return _closing(415, "Compressed request bodies are not read; send the body as it is.")
        length = headers.get("content-length", "0")
        sane = length.isdecimal() and len(length) <= _DIGITS
        return None if sane and int(length) <= self._limit else self._too_large()

    def _too_large(self) -> Json:
        return _closing(413, f"The request's body is larger than {self._limit // 2**20} MiB.")


class _Body:
    """One request's body on its way in.

    Attributes:
        exceeded: whether it was longer than allowed.
    """

    def __init__(self, receive: Receive, limit: int, patience: float) -> None:
        self._receive = receive
        self._left = limit
        self._end = time.monotonic() + patience
        self._whole = self.exceeded = False

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            TooLarge: all of it together is too long.
            TooSlow: it does not come in time.
        """
        if self._whole:
            return await self._receive()  # what may come yet is that the client leaves
        try:
            async with asyncio.timeout(max(min(_SILENCE, self._end - time.monotonic()), 0)):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow("The rest of the request's body did not come in time.") from None
        self._whole = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.exceeded = True
            raise errors.TooLarge("The request's body is too large.")
        return message


def _closing(status: int, message: str) -> Json:
    """A refusal before the body was read; the connection cannot serve another request."""
    code = "too_large" if status == 413 else "unsupported_media_type"
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return Json(body, status, {"Connection": "close"})


def _address(origin: str) -> str | None:
    """The host and port of an origin; None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    host = host.lower().rstrip(".")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
