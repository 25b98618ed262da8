"""Server-sent events, as OpenAI's clients read them: one line of JSON each, and nothing else but comments."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from llama_pajamas_run_core.server.errors import describe
from llama_pajamas_run_core.server.feed import Feed, Streamed, while_connected
from llama_pajamas_run_core.server.services import Services
from llama_pajamas_run_core.server.wire import dump

DONE = b"data: [DONE]\n\n"
_COMMENT = b": ping\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(data: Any) -> bytes:
    """One event."""
    return b"data: " + dump(data) + b"\n\n"


async def respond_with_events(
    request: Request, services: Services, events: AsyncIterator[bytes], *, empty: dict[str, Any] | None = None
) -> Streamed:
    """Stream events to a client.

    What goes wrong before the first event gets a status of its own, unless it takes so long that silence must be
    broken; what goes wrong later becomes the last event.

    Args:
        request: the client's.
        services: the server's.
        events: the events, serialized.
        empty: what keeps the connection alive where empty chunks are configured.

    Raises:
        Exception: what went wrong before the first event.
    """
    settings = services.settings
    ping = {"comment": _COMMENT, "chunk": event(empty) if empty else _COMMENT, "off": None}[settings.sse_keep_alive]
    feed = Feed(events)
    try:
        await while_connected(request, feed.started(settings.sse_silence), services.metrics.disconnect)
    except BaseException:
        await feed.close()
        raise
    return Streamed(
        feed,
        media_type="text/event-stream",
        headers=_HEADERS,
        silence=settings.sse_silence,
        ping=ping,
        on_error=lambda error: event(describe(error)),
        on_leave=services.metrics.disconnect,
    )
