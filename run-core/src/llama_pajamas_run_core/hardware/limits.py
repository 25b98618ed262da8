"""What a process may use of a machine: processors by affinity and quota, memory by the limits of control groups.

Control groups: https://docs.kernel.org/admin-guide/cgroup-v2.html and, for older systems,
https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

#: A limit at least this large means "none" in version 1 of control groups.
_NO_LIMIT = 1 << 60


def usable_processors(root: Path = Path("/")) -> int:
    """Logical processors that this process may use: all, less those outside its affinity, less what a quota takes.

    Args:
        root: where /proc and /sys are.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that the control groups of this process allow; None where nothing limits it."""
    quotas = []
    for folder in _groups(root, "cpu"):
        words = _words(folder / "cpu.max")  # version 2: "200000 100000" or "max 100000"
        if len(words) != 2:
            words = [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
        numbers = [_number(word) for word in words]
        if len(numbers) == 2 and numbers[0] is not None and numbers[1] and numbers[0] > 0:
            quotas.append(numbers[0] / numbers[1])
    return min(quotas, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes of memory that the control groups of this process allow; None where nothing limits it."""
    found = [limit for limit, _ in _memory(root)]
    return min(found, default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes of memory that the control groups still allow; None where nothing limits it.

    The page cache counts as used in a control group, but is given up for whoever needs memory.
    """
    left = [max(0, limit - used) for limit, used in _memory(root)]
    return min(left, default=None)


def _memory(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes used that cannot be given up) of each control group that limits memory."""
    for folder in _groups(root, "memory"):
        for limit_file, usage_file, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _number(*_words(folder / limit_file)[:1])
            if limit is None or limit >= _NO_LIMIT:
                continue
            used = _number(*_words(folder / usage_file)[:1]) or 0
            words = _words(folder / "memory.stat")
            statistics = dict(zip(words[::2], words[1::2], strict=False))
            yield limit, max(0, used - (_number(statistics.get(cache_key, "")) or 0))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, from its own up to the root."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if number == "0" and not controllers:
            base = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controller
        else:
            continue
        folder = base / place.lstrip("/")
        # Inside a container the path may be the host's, where only the mounted root is to be seen.
        while folder != base and base in folder.parents:
            if folder.is_dir():
                yield folder
            folder = folder.parent
        yield base


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _number(text: str = "") -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
