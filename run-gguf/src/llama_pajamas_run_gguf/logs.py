"""llama.cpp's log lines, through Python's logging instead of stderr."""

import ctypes
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import llama_cpp

_log = logging.getLogger(__name__)

#: ggml's levels (debug, info, warn, error). It informs about every model by the page and warns of ordinary things.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, 4: logging.WARNING}
_WARNING = 3
_CONTINUED = 5

_collectors: list[tuple[deque[str], int]] = []
_last = 0


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def receive(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    global _last
    if level == _CONTINUED:
        level = _last
    _last = level
    line = text.decode("utf-8", "replace").rstrip()
    if not line:
        return
    for collector, least in _collectors:
        if level >= least:
            collector.append(line)
    _log.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


def install() -> None:
    """Send llama.cpp's and ggml's lines to this module's logger."""
    llama_cpp.llama_log_set(receive, ctypes.c_void_p(0))


@contextmanager
def collected(*, everything: bool = False) -> Iterator[deque[str]]:
    """What llama.cpp reports meanwhile: its C functions return no reasons, only NULL.

    Args:
        everything: whether more than warnings and errors is wanted.
    """
    lines: deque[str] = deque(maxlen=4096 if everything else 32)
    entry = (lines, 0 if everything else _WARNING)
    _collectors.append(entry)
    try:
        yield lines
    finally:
        _collectors.remove(entry)
