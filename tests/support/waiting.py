"""Waiting for what another thread or task does."""

import asyncio
import time
from collections.abc import Callable

_GLANCE = 0.002


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Return as soon as a condition holds; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(_GLANCE)


async def until(condition: Callable[[], object], seconds: float = 3.0) -> float:
    """As :func:`wait_until`, while the event loop goes on; returns how many seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it never happened"
        await asyncio.sleep(_GLANCE)
    return time.monotonic() - start
