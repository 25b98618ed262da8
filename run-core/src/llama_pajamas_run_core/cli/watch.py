"""``llama-pajamas hardware --watch``: what the hardware does, reading by reading."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from llama_pajamas_run_core.hardware.monitor import Monitor, Watch
from llama_pajamas_run_core.hardware.readings import GPUReading, Reading


def show(*, interval: float, count: int, as_json: bool, monitor: Monitor | None = None) -> None:
    """Show readings until Ctrl-C, or until there were enough.

    Args:
        interval: seconds between them.
        count: how many; 0 goes on.
        as_json: print each as a line of JSON, in place of a table that changes.
        monitor: takes them; one of this machine if None.

    Raises:
        BadInput: the interval is too short.
    """
    monitor = Monitor(interval=interval) if monitor is None else monitor
    with contextlib.suppress(KeyboardInterrupt):
        if as_json:
            for seen in _readings(monitor, count):
                typer.echo(line(seen))
            return
        with Live(console=Console(), auto_refresh=False, transient=False) as live:
            for seen in _readings(monitor, count):
                live.update(table(seen), refresh=True)


def _readings(monitor: Monitor, count: int) -> Iterator[Watch]:
    # Shares of time are those between two readings: the first of all has none and is not shown.
    monitor.sample()
    time.sleep(min(monitor.interval, 0.2))
    taken = 0
    while True:
        yield monitor.sample()
        taken += 1
        if taken == count:
            return
        time.sleep(monitor.interval)


def line(seen: Watch) -> str:
    """A reading as a line of JSON."""
    assert seen.reading is not None
    alerts = [asdict(alert) for alert in seen.alerts]
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, **seen.reading.plain(), "alerts": alerts})


def table(seen: Watch) -> Group:
    """A reading for people."""
    reading = seen.reading
    assert reading is not None
    rows = Table("device", "busy", "memory", "temperature", "power", "clock", "throttled by", box=None, pad_edge=False)
    host = reading.host
    rows.add_row("host", _share(host.utilization), _memory(host.memory_used, host.memory), "", "", "", "")
    rows.add_row("this process", _share(host.process_utilization), _gib(host.process_memory), "", "", "", "")
    for gpu in reading.gpus:
        rows.add_row(
            f"GPU {gpu.index} {gpu.name}",
            _share(gpu.utilization),
            _memory(gpu.memory_used, gpu.memory),
            "-" if gpu.temperature is None else f"{gpu.temperature:.0f} C",
            _power(gpu),
            "-" if gpu.clock is None else f"{gpu.clock / 1e6:.0f} MHz",
            "-" if gpu.throttling is None else ", ".join(gpu.throttling) or "nothing",
        )
    alerts = [Text(f"{alert.name}: {alert.message}", style="bold red") for alert in seen.alerts]
    return Group(rows, *(Text(f"{what}: {why}") for what, why in _reasons(reading)), *alerts)


def _reasons(reading: Reading) -> Iterator[tuple[str, str]]:
    """Why something is not shown, each reason once."""
    yield from reading.notes.items()
    for name, missing in (("host", reading.host.missing), *((f"GPU {gpu.index}", gpu.missing) for gpu in reading.gpus)):
        by_reason: dict[str, list[str]] = {}
        for what, reason in missing.items():
            by_reason.setdefault(reason, []).append(what)
        for reason, fields in by_reason.items():
            yield f"{name}, no {', '.join(fields)}", reason


def _power(gpu: GPUReading) -> str:
    if gpu.power is None:
        return "-"
    return f"{gpu.power:.0f} W" if gpu.power_limit is None else f"{gpu.power:.0f} of {gpu.power_limit:.0f} W"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**30:.1f} GiB"


def _memory(used: int | None, total: int | None) -> str:
    if used is None or not total:
        return "-"
    return f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB ({used / total:.0%})"
