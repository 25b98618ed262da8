"""Large batches of several lanes computed one after the other, while their pixels travel side by side."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llama_pajamas_run_tensorrt._lane import Lane


class Turns:
    """The order in which the lanes of an engine compute.

    Two large batches that a GPU computes at the same time take turns on its cores and push each other out of its
    caches: YOLOv8n on an H200 looks at 9,450 pictures a second so, and at 10,200 one batch behind the other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Lane | None = None

    @contextmanager
    def after_others(self, lane: Lane) -> Iterator[None]:
        """What is put on the lane's stream in this ``with`` statement begins when what others put on theirs is done."""
        with self._lock:
            if self._last is not None and self._last is not lane:
                lane.stream.wait_for_event(self._last.done)
            yield
            lane.done.record(lane.stream)
            self._last = lane
