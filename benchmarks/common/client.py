"""A client of OpenAI's streamed completions that does as little as possible while tokens arrive."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from common.load import Answer, Ask, now

_PATIENCE = httpx.Timeout(10, read=600, pool=None)


def open_client(url: str) -> httpx.AsyncClient:
    """A client with connections for as many streams as are wanted."""
    # A new connection for each request: servers close idle ones, now and then just as one is used again.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"accept-encoding": "identity"}
    return httpx.AsyncClient(base_url=url, timeout=_PATIENCE, limits=limits, headers=headers, trust_env=False)


async def complete(
    client: httpx.AsyncClient,
    ask: Ask,
    *,
    model: str,
    seen: Callable[[], None] | None = None,
    leave: Callable[[], bool] | None = None,
) -> Answer:
    """Send one request and note when its tokens arrive.

    The events are taken apart after the answer, so that the client takes little of the time that the servers share.

    Args:
        client: of the server.
        ask: the request.
        model: the model's name there.
        seen: called whenever something arrives.
        leave: asked whenever something arrives; the connection is closed once it says so.
    """
    body = {
        "model": model,
        "prompt": ask.prompt,
        "max_tokens": ask.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **ask.sampling,
    }
    answer = Answer(now())
    pieces: list[tuple[float, bytes]] = []
    try:
        async with client.stream("POST", "/v1/completions", json=body) as reply:
            if reply.status_code != 200:
                answer.error = f"HTTP {reply.status_code}: {(await reply.aread())[:200].decode('utf-8', 'replace')}"
                return answer
            async for piece in reply.aiter_raw():
                pieces.append((now(), piece))
                if seen is not None:
                    seen()
                if leave is not None and leave():
                    break
    except httpx.HTTPError as error:
        answer.error = f"{type(error).__name__}: {error}"
    answer.ended = now()
    _read(pieces, answer)
    return answer


def _read(pieces: list[tuple[float, bytes]], answer: Answer) -> None:
    rest = b""
    usage: dict[str, Any] = {}
    for time, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
                continue
            event = json.loads(line[5:])
            if "error" in event:
                answer.error = str(event["error"])[:200]
                continue
            usage = event.get("usage") or usage
            if any(choice.get("text") for choice in event.get("choices", ())):
                answer.times.append(time)
    answer.tokens = usage.get("completion_tokens", len(answer.times))
    answer.prompt_tokens = usage.get("prompt_tokens")
    answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
