"""The one place that watches the hardware: a thread that takes a reading now and then and keeps the last one."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.readings import Reading
from llama_pajamas_run_core.hardware.sampler import Sampler
from llama_pajamas_run_core.hardware.thresholds import Alarm, Alert, Thresholds

_log = logging.getLogger(__name__)

#: No more than ten readings a second: each asks the driver.
SHORTEST: Final = 0.1
#: After so many intervals, and so many seconds, without a reading the last one no longer counts.
_STALE_INTERVALS: Final = 5
_STALE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Watch:
    """What the monitor knows.

    Attributes:
        count: how many readings there were.
        reading: the last one; None before the first.
        alerts: the thresholds that are passed.
    """

    count: int = 0
    reading: Reading | None = None
    alerts: tuple[Alert, ...] = ()


class Monitor:
    """Watches the hardware on a thread of its own. Asking it costs nothing and never waits for a driver.

    Args:
        sampler: takes the readings; one of this machine if None.
        thresholds: when alerts are raised.
        interval: seconds between readings, at least 0.1.
        clock: seconds, monotonic, as the sampler's.

    Raises:
        BadInput: the interval is too short.
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        *,
        thresholds: Thresholds | None = None,
        interval: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not interval >= SHORTEST:
            raise BadInput(f"The hardware is read every {SHORTEST:g} seconds at most, not every {interval:g}.")
        self.interval = interval
        self._sampler = Sampler() if sampler is None else sampler
        self._alarm = Alarm(thresholds or Thresholds())
        self._clock = clock
        self._last = Watch()
        self._listeners: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self) -> Watch:
        """The last reading and its alerts. Where readings stopped coming (a driver that hangs), no alert counts."""
        last = self._last
        return Watch(last.count, last.reading) if self.stale() else last

    def stale(self) -> bool:
        """Whether the last reading is too old to go by."""
        reading = self._last.reading
        oldest = max(_STALE_INTERVALS * self.interval, _STALE_SECONDS)
        return reading is not None and self._clock() - reading.time > oldest

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after every reading, on the monitor's thread.

        Returns:
            ends it.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def start(self) -> None:
        """Begin to watch. Harmless when it does already."""
        if self._thread is None:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="hardware-monitor", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Stop watching. Harmless when it does not. A driver that hangs is not waited for longer than the timeout."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            thread.join(timeout)

    def sample(self) -> Watch:
        """Take a reading now; for the monitor's own thread, and for those who have not started it."""
        reading = self._sampler.read()
        self._last = Watch(self._last.count + 1, reading, self._alarm.update(reading))
        for listener in tuple(self._listeners):
            try:
                listener()
            except Exception:
                _log.exception("a listener of the hardware monitor failed")
        return self._last

    def _run(self, stop: threading.Event) -> None:
        try:
            while True:
                self.sample()
                if stop.wait(self.interval):
                    return
        except Exception:
            _log.exception("the hardware monitor ended")
        finally:
            self._sampler.close()
