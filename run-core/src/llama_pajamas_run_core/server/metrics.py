"""Counts for Prometheus, in its text format 0.0.4.

Labels are route templates and statuses, never what a client wrote.
"""

import threading
from collections import Counter
from collections.abc import Iterable

from llama_pajamas_run_core.hardware.monitor import Watch
from llama_pajamas_run_core.pool.status import ModelStatus
from llama_pajamas_run_core.server.gauges import Family, hardware_families
from llama_pajamas_run_core.types.chat import Usage

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What one server has done so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._disconnects = 0

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a finished request; status 0 stands for a client that left before the reply."""
        with self._lock:
            self._requests[path, status] += 1
            self._seconds[path] += seconds  # type: ignore[assignment]  # a Counter holds floats as well

    def tokens(self, usage: Usage) -> None:
        """Count the tokens of an answer."""
        with self._lock:
            self._tokens["prompt"] += usage.prompt_tokens
            self._tokens["completion"] += usage.completion_tokens

    def disconnect(self) -> None:
        """Count a client that left while its request was worked on."""
        with self._lock:
            self._disconnects += 1

    def text(self, models: Iterable[ModelStatus], seen: Watch | None = None) -> str:
        """Everything, for Prometheus.

        Args:
            models: those of the pool.
            seen: what the hardware monitor knows.
        """
        models = list(models)
        with self._lock:
            requests = [
                (f'path="{path}",status="{status}"', count) for (path, status), count in sorted(self._requests.items())
            ]
            seconds = [(f'path="{path}"', round(total, 6)) for path, total in sorted(self._seconds.items())]
            tokens = [(f'kind="{kind}"', count) for kind, count in sorted(self._tokens.items())]
            disconnects = self._disconnects
        families: list[Family] = [
            ("requests_total", "counter", "Requests by route and status.", [*requests]),
            ("request_seconds_total", "counter", "Seconds spent on requests.", [*seconds]),
            ("tokens_total", "counter", "Tokens read and written.", [*tokens]),
            ("disconnects_total", "counter", "Clients that left early.", [("", disconnects)]),
            ("models_loaded", "gauge", "Models loaded.", [("", sum(m.state == "loaded" for m in models))]),
            ("requests_running", "gauge", "Leases of models held.", [("", sum(m.users for m in models))]),
            ("requests_waiting", "gauge", "Requests waiting for a model.", [("", sum(m.waiting for m in models))]),
            ("model_memory_bytes", "gauge", "Memory reserved for models.", [("", sum(m.memory for m in models))]),
            *(hardware_families(seen) if seen is not None else ()),
        ]
        lines: list[str] = []
        for name, kind, help_, samples in families:
            full = f"llama_pajamas_{name}"
            lines += [f"# HELP {full} {help_}", f"# TYPE {full} {kind}"]
            lines += [f"{full}{{{labels}}} {value}" if labels else f"{full} {value}" for labels, value in samples]
        return "\n".join(lines) + "\n"
