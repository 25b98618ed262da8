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
_WORTH_KEEPING = (3, 4)
_CONTINUED = 5

_collectors: list[deque[str]] = []
_last = 0


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _receive(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    global _last
    if level == _CONTINUED:
        level = _last
    _last = level
    line = text.decode("utf-8", "replace").rstrip()
    if not line:
        return
    if level in _WORTH_KEEPING:
        for collector in _collectors:
            collector.append(line)
    _log.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


def install() -> None:
    """Send llama.cpp's and ggml's lines to this module's logger."""
    llama_cpp.llama_log_set(_receive, ctypes.c_void_p(0))


@contextmanager
def collected() -> Iterator[deque[str]]:
    """The warnings and errors that llama.cpp reports meanwhile: its C functions return no reasons, only NULL."""
    lines: deque[str] = deque(maxlen=32)
    _collectors.append(lines)
    try:
        yield lines
    finally:
        _collectors.remove(lines)
