"""Finding the runtimes that are installed, through the entry-point group ``llama_pajamas.runtimes``.

Only descriptors are imported, never an SDK. The environment variable LLAMA_PAJAMAS_RUNTIMES, a comma-separated list of
names, limits what is found.
"""

import functools
import logging
import os
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from llama_pajamas_run_core.runtimes.info import RuntimeInfo, RuntimeState

_log = logging.getLogger(__name__)

#: Where runtimes register.
GROUP = "llama_pajamas.runtimes"
#: The environment variable that names the runtimes to look at.
ALLOW = "LLAMA_PAJAMAS_RUNTIMES"


def discover() -> tuple[RuntimeInfo, ...]:
    """The descriptors of all installed runtimes, by name.

    A descriptor that cannot be imported is logged with its traceback and left out: somebody else's broken package must
    not take the others down. The result is cached.
    """
    return _discover(_allowed())


def find(name: str) -> RuntimeInfo | None:
    """The installed runtime of that name, or None."""
    return next((info for info in discover() if info.name == name), None)


def installed(runtimes: Iterable[RuntimeInfo] | None = None) -> tuple[RuntimeState, ...]:
    """The runtimes, each with the packages that this environment lacks for it. Imports no SDK.

    Args:
        runtimes: which; all that :func:`discover` finds if None.
    """
    return tuple(RuntimeState.of(info) for info in (discover() if runtimes is None else runtimes))


def _allowed() -> frozenset[str] | None:
    names = os.environ.get(ALLOW)
    if names is None or not names.strip():
        return None
    return frozenset(name.strip() for name in names.split(",") if name.strip())


@functools.cache
def _discover(allowed: frozenset[str] | None) -> tuple[RuntimeInfo, ...]:
    found: dict[str, RuntimeInfo] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if allowed is not None and point.name not in allowed:
            continue
        info = _load(point)
        if info is None:
            continue
        if info.name in found:
            _log.warning("runtime=%s is registered twice; %s is ignored", info.name, point.value)
            continue
        found[info.name] = info
    if allowed and (unknown := allowed - found.keys()):
        _log.warning("%s names runtimes that are not installed: %s", ALLOW, ", ".join(sorted(unknown)))
    return tuple(found[name] for name in sorted(found))


def _load(point: EntryPoint) -> RuntimeInfo | None:
    try:
        info = point.load()
    except Exception:
        _log.exception("runtime=%s could not be loaded from %s", point.name, point.value)
        return None
    if not isinstance(info, RuntimeInfo):
        _log.error("runtime=%s: %s is a %s, not a RuntimeInfo", point.name, point.value, type(info).__name__)
        return None
    return info
