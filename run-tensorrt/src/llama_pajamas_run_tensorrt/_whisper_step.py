"""One token of Whisper's decoder as a single start: small inputs up, the engine, the logits down, as one CUDA graph."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_core.whisper.cache import Places
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._driver import Graph
from llama_pajamas_run_tensorrt._lane import Lane
from llama_pajamas_run_tensorrt._session import DeviceArray
from llama_pajamas_run_tensorrt.memory import Block

Arrays = Mapping[str, DeviceArray]


class Step:
    """A step of one token for a given number of rows. Made and used with the GPU current.

    Args:
        lane: the decoder's lane.
        rows: of the batch.
        audio: what the encoder writes to.
        caches: the two caches; a step reads one and writes the other.

    Attributes:
        recorded: whether the lane could record it; if not, it cannot be used.

    Raises:
        OutOfMemory: there is no room for it.
    """

    def __init__(self, lane: Lane, rows: int, audio: Arrays, caches: tuple[Arrays, Arrays]) -> None:
        self._lane = lane
        session = lane.session
        shapes = {one.name: (rows, *one.largest[1:]) for one in session.inputs}
        room = shapes["mask"][1]
        shapes |= {"tokens": (rows, 1), "positions": (1,), "write": (1, room), "mask": (1, room)}
        small = ("tokens", "positions", "write", "mask")
        self._inputs = {name: lane.zeros(shapes[name], session.input(name).dtype) for name in small}
        self._blocks: list[Block] = []
        self._told = {name: self._pinned(array) for name, array in self._inputs.items()}
        heads = int(session.output("scores").shape[1] or 0)
        positions = next(iter(audio.values())).shape[-1]
        sizes = {"logits": (rows, int(session.output("logits").shape[1] or 0)), "scores": (rows, heads, 1, positions)}
        self._outputs = {name: lane.empty(shape, session.output(name).dtype) for name, shape in sizes.items()}
        self._logits = self._pinned(self._outputs["logits"])
        heard = {name: array.view(shapes[name]) for name, array in audio.items()}
        self._graphs: list[Graph] = []
        for old, new in (caches, caches[::-1]):
            feeds = {**self._inputs, **heard, **{name: array.view(shapes[name]) for name, array in old.items()}}
            into = {f"new_{name}": array.view(shapes[name]) for name, array in new.items()}
            graph = lane.record(feeds, {**self._outputs, **into}, before=self._up, after=self._down)
            if graph is not None:
                self._graphs.append(graph)
        self.recorded = len(self._graphs) == 2

    def run(self, tokens: npt.NDArray[np.int32], places: Places, which: int) -> npt.NDArray[np.float32]:
        """The logits behind the tokens; the array is written again by the next run.

        Args:
            tokens: int32 [rows, 1].
            places: where they stand.
            which: the cache that is read.
        """
        for name, array in (
            ("tokens", tokens), ("positions", places.positions), ("write", places.write), ("mask", places.mask)
        ):  # fmt: skip
            np.copyto(self._told[name], array)
        with _sdk.mapped(InferenceError, f"{self._lane.session.path.name} failed", self._lane.session.log):
            self._graphs[which].launch(self._lane.stream)
            self._lane.stream.synchronize()
        return self._logits.astype(np.float32, copy=False)

    def _up(self) -> None:
        for name, array in self._inputs.items():
            _sdk.cuda.memcpy_htod_async(array.address, self._told[name], self._lane.stream)

    def _down(self) -> None:
        _sdk.cuda.memcpy_dtoh_async(self._logits, self._outputs["logits"].address, self._lane.stream)

    def _pinned(self, array: DeviceArray) -> npt.NDArray[np.generic]:
        block = self._lane.pinned(array.nbytes)
        self._blocks.append(block)
        made: npt.NDArray[np.generic] = np.asarray(block.handle)[: array.nbytes].view(array.dtype).reshape(array.shape)
        made[...] = 0
        return made
