"""On which of several GPUs a model goes: the one with the most memory left."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from llama_pajamas_run_core.hardware.readings import Reading
from llama_pajamas_run_core.types.hardware import NvidiaGPU

#: GPUs whose free memory differs by less are taken to have the same.
_STEP: Final = 256 * 2**20
#: Seconds for which a reading is good enough.
_FRESH: Final = 0.5


class Placement:
    """Chooses among GPUs. Safe to use from several threads.

    Args:
        gpus: those that this process may use, with the memory that was free when it began.
        look: takes a reading of the hardware, or gives the last one; None where the profile is all that is known.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        gpus: Sequence[NvidiaGPU],
        look: Callable[[], Reading | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # The memory of an integrated GPU is the host's, which the pool's budget counts.
        self.gpus = {gpu.uuid: gpu for gpu in gpus if not gpu.integrated}
        self.look = look
        self._clock = clock
        self._looking = threading.Lock()
        self._reading: Reading | None = None
        self._looked = -_FRESH

    def refresh(self) -> None:
        """Take a new reading if the last one is old. Asks the driver, so no lock may be held meanwhile."""
        with self._looking:
            if self.look is not None and self._clock() - self._looked >= _FRESH:
                self._reading, self._looked = self.look(), self._clock()

    def room(
        self, uuid: str, reserved: Mapping[str, int], loading: Mapping[str, int], leaving: Mapping[str, int]
    ) -> int:
        """Bytes left on a GPU.

        What is reserved may not be taken yet, and others may take memory too, so the lower of two counts holds: what
        was free at the beginning less all reservations, and what is free now less those of models being loaded.

        Args:
            uuid: the GPU.
            reserved: for models that are on each GPU or being loaded.
            loading: the part of it for models being loaded.
            leaving: for models that would be unloaded first.
        """
        by_plan = self.gpus[uuid].memory_free - reserved.get(uuid, 0)
        seen = None if self._reading is None else self._reading.gpu(uuid)
        if seen is None or seen.memory_free is None:
            return by_plan
        return min(by_plan, seen.memory_free - loading.get(uuid, 0) + leaving.get(uuid, 0))

    def best(self, rooms: Mapping[str, int], avoid: Collection[str] = ()) -> str | None:
        """The GPU with the most room; of those with the same the one that computes least.

        Args:
            rooms: bytes left on each GPU that may be taken.
            avoid: GPUs not to be taken.
        """
        order = list(self.gpus)

        def rank(uuid: str) -> tuple[float, ...]:
            seen = None if self._reading is None else self._reading.gpu(uuid)
            busy = 0.0 if seen is None or seen.utilization is None else seen.utilization
            return rooms[uuid] // _STEP, -busy, rooms[uuid], -order.index(uuid)

        return max((uuid for uuid in rooms if uuid not in avoid), key=rank, default=None)

    def choose(self, avoid: Collection[str] = (), need: int = 0) -> str | None:
        """The GPU to load a model on where no other is held; None unless there are several to choose from.

        Args:
            avoid: GPUs not to be taken.
            need: bytes that have to be free there.
        """
        if len(self.gpus) < 2:
            return None
        self.refresh()
        rooms = {uuid: self.room(uuid, {}, {}, {}) for uuid in self.gpus}
        best = self.best(rooms, avoid)
        return None if best is None or rooms[best] < need else best

    def find(self, named: object) -> str | None:
        """The UUID of a GPU that a load option names by its place among the visible ones, or by its UUID."""
        order = list(self.gpus)
        if isinstance(named, int) and not isinstance(named, bool):
            return order[named] if 0 <= named < len(order) else None
        if isinstance(named, str) and named.isdigit():
            return self.find(int(named))
        found = [uuid for uuid in order if isinstance(named, str) and named and uuid.startswith(named)]
        return found[0] if len(found) == 1 else None
