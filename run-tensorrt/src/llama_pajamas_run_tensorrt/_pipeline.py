"""The way of pictures through an engine: to its input, through it, and what it found back to the host.

For a batch the host copies pixels to pinned memory, unless they lie there already, and what describes each picture
beside them. The GPU does the rest: a kernel that brings the pictures to the input, the engine, and for heads in
YOLOv8's layout two kernels that leave the few boxes that count, in the host's memory. Where a batch of that size came
before, all of that is one CUDA graph.
"""

import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.spec import Reading
from llama_pajamas_run_core.dsp.fit import Placement, fit, normalization, place
from llama_pajamas_run_core.dsp.heads import Candidates, read_candidates, suppress
from llama_pajamas_run_core.errors import InferenceError, PajamasError
from llama_pajamas_run_core.types.vision import DetectOptions, Image
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._copying import CUT, Copiers, Copying, copied
from llama_pajamas_run_tensorrt._driver import Graph
from llama_pajamas_run_tensorrt._head import Table, table_of
from llama_pajamas_run_tensorrt._kernels import VisionKernels
from llama_pajamas_run_tensorrt._lane import Lane
from llama_pajamas_run_tensorrt._page_locked import is_page_locked
from llama_pajamas_run_tensorrt._turns import Turns
from llama_pajamas_run_tensorrt.kernels import BOX, MOST_FOUND, MOST_KEPT, PICTURE, PICTURE_BYTES
from llama_pajamas_run_tensorrt.memory import Block, DeviceArray

logger = logging.getLogger(__name__)

#: What the pixels of a picture are aligned to.
_ALIGNED: Final = 256
#: Batches of up to this size, and those of the largest, are worth a graph: of others the GPU's work is long enough.
_SMALL_BATCH: Final = 8
#: Outputs of up to this many bytes in all are copied to the host with every batch.
_SMALL_OUTPUTS: Final = 8 << 20

_picture = struct.Struct(PICTURE)
assert _picture.size == PICTURE_BYTES


#: What a job is turned into: from the objects that a detector found and where the picture lay in the input.
Make = Callable[[Candidates, Placement], Any]
#: What jobs are turned into: from the rows [n, ...] of a model's first output.
Read = Callable[[npt.NDArray[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be looked at.

    Attributes:
        image: the picture.
        options: how to detect, or None where the model's first output is wanted (of a classifier or an embedder).
        masks: whether mask coefficients and prototypes are wanted.
        make: makes the result of what a detector found; while the next batch runs, so it costs no time of its own.
        read: makes the results of a model's first output, likewise; jobs that have the same are read together.
    """

    image: Image
    options: DetectOptions | None = None
    masks: bool = False
    make: Make | None = None
    read: Read | None = None


class Pipeline:
    """A lane with what is needed around the engine. Used by one thread at a time, which has the lane's GPU current.

    Args:
        lane: the lane, which is this pipeline's alone.
        reading: how the model is used.
        kernels: the kernels, or None to do their work on the host.
        turns: the order of large batches among the pipelines of an engine.
        copiers: threads that help to copy large batches, or None.
        most: the most pictures of a batch; None for as many as the engine takes.

    Raises:
        OutOfMemory: its buffers do not fit.
    """

    def __init__(
        self,
        lane: Lane,
        reading: Reading,
        kernels: VisionKernels | None,
        turns: Turns,
        copiers: Copiers | None = None,
        most: int | None = None,
    ) -> None:
        self._turns = turns
        self.lane, self.reading, self.spec = lane, reading, reading.spec
        session = lane.session
        tensor = session.input(reading.pixels.name)
        takes = reading.batch or tensor.largest[0]
        self.most = takes if most is None else min(most, takes)
        self._least = max(min((low[0] for low, _, _ in tensor.limits), default=1), reading.batch or 1)
        self._kernels, self._copiers = kernels, copiers
        self._read = [session.outputs[index] for index in reading.outputs]
        self._mapped = _sdk.mapped(InferenceError, f"{session.path.name} failed", session.log)
        self._jobs: list[Job] = []
        self._placements: list[Placement] = []
        self._next: list[Job] = []
        self._next_placements: list[Placement] = []
        self._batch: npt.NDArray[Any] | None = None
        self._copying: Copying | None = None
        self._made: Mapping[str, Any] = {}
        self._table = table_of(reading, session.outputs) if kernels is not None else None
        self._graphs: dict[int, Graph] = {}
        self._came: set[int] = set()
        self._place = lru_cache(maxsize=256)(lambda width, height: place(width, height, self.spec))
        if kernels is not None:
            self._reserve(tensor.dtype)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Bring a small batch to pinned memory and on its way to the GPU; a larger one as far as other threads help.

        The results of the batch before can still be made after this.

        Raises:
            InferenceError, OutOfMemory: as the lane's.
        """
        with self._mapped:
            self._next = list(jobs)
            if self._kernels is None:
                fitted = [fit(job.image, self.spec) for job in jobs]
                self._next_placements = [placement for _, placement in fitted]
                self._batch = self._input_of(np.stack([pixels for pixels, _ in fitted]))
                return
            self._next_placements = [self._place(job.image.width, job.image.height) for job in jobs]
            offsets = self._describe(jobs)
            pictures = [job.image.pixels for job in jobs]
            if all(map(is_page_locked, pictures)):
                self._fetch(pictures, offsets)
            else:
                self._begin_copying(pictures, offsets)

    def launch(self) -> None:
        """Copy what is still to be copied of the batch that was prepared, and start it.

        Raises:
            InferenceError, OutOfMemory: as the lane's.
        """
        with self._mapped:
            self._jobs, self._placements = self._next, self._next_placements
            self._next = []
            if self._kernels is None:
                batch, self._batch = self._batch, None
                assert batch is not None
                self._made = self.lane.run({self.reading.pixels.name: batch})
                return
            copying, self._copying = self._copying, None
            if copying is not None:
                try:
                    for first, last in copying.ready():
                        self._upload(first, last)
                finally:
                    copying.settle()
            if len(self._jobs) > _SMALL_BATCH:
                with self._turns.after_others(self.lane):
                    self._launch(len(self._jobs))
            else:  # leaves so much of the GPU idle that others had better run beside it
                self._launch(len(self._jobs))

    def wait(self) -> None:
        """Wait for the batch that was launched.

        Raises:
            InferenceError: the engine failed.
        """
        with self._mapped:
            self.lane.stream.synchronize()

    def results(self) -> list[Any]:
        """What was found in the batch that was waited for.

        Returns:
            for each job what its ``make`` or ``read`` made, or the first output for its picture.

        Raises:
            InferenceError: the output is not as it should be.
        """
        with self._mapped:
            jobs, self._jobs = self._jobs, []
            if self._table is not None:
                told = self._host_told_integers[: len(jobs), 0, 1:3].tolist()
                return [self._told_of(job, index, *told[index]) for index, job in enumerate(jobs)]
            outputs = self._outputs(len(jobs))
            if jobs and jobs[0].options is None:
                return _read_together(jobs, outputs[0])
            return [self._seen(job, index, [output[index] for output in outputs]) for index, job in enumerate(jobs)]

    def once(self, jobs: Sequence[Job]) -> list[Any]:
        """The results of one batch, from the beginning to the end."""
        self.prepare(jobs)
        self.launch()
        self.wait()
        return self.results()

    def abandon(self) -> None:
        """Wait for what is on the GPU, and forget it."""
        self._jobs, self._next = [], []
        copying, self._copying = self._copying, None
        if copying is not None:
            copying.settle()
        try:
            with self.lane.session.device.current():
                self.lane.synchronize()
        except PajamasError as error:
            logger.warning("lane=%d: %s", self.lane.index, error)

    def infer(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        """The outputs for a batch that was prepared on the host, as ``VisionBackend._infer`` gives them."""
        with self.lane.session.device.current():
            made = self.lane.download_all(self.lane.run({self.reading.pixels.name: self._input_of(batch)}))
        return self.reading.read([made[one.name] for one in self.lane.session.outputs], len(batch))

    def _reserve(self, dtype: npt.DTypeLike) -> None:
        """Take the memory whose addresses graphs hold: all but the pixels."""
        lane, spec, most = self.lane, self.spec, max(self.most, self._least)
        sizes = (spec.height, spec.width, 3) if self.reading.channels_last else (3, spec.height, spec.width)
        self._input = lane.empty((most, *sizes), dtype)
        factors, offsets = normalization(spec)
        self._factors, self._offsets = factors.tolist(), offsets.tolist()
        self._fixed = self._fixed_outputs(most)
        self._counts = lane.empty((most,), np.int32)
        self._pictures = lane.empty((most * PICTURE_BYTES,), np.uint8)
        self._blocks: list[Block] = []
        self._host_pictures = self._pinned(most * PICTURE_BYTES)
        self._pixels: DeviceArray | None = None
        self._pixels_block: Block | None = None
        self._host_pixels = np.zeros(0, np.uint8)
        self._host_read: dict[str, npt.NDArray[Any]] = {}
        if self._table is not None:
            self._reserve_for_boxes(self._table, most)
        elif self._fixed is not None:
            arrays = {one.name: self._fixed[one.name] for one in self._read}
            if sum(array.nbytes for array in arrays.values()) <= _SMALL_OUTPUTS:
                self._host_read = {
                    name: self._pinned(array.nbytes).view(array.dtype).reshape(array.shape)
                    for name, array in arrays.items()
                }

    def _reserve_for_boxes(self, table: Table, most: int) -> None:
        lane, kinds = self.lane, table.layout[1]
        self._wanted = lane.empty((most, kinds), np.uint8)
        self._host_wanted = self._pinned(most * kinds).reshape(most, kinds)
        self._host_wanted[:] = 1
        self._asked: list[tuple[int, ...] | None] = [None] * most
        self._wanted_is_new = True
        self._room = min(1 << max(table.layout[2] - 1, 0).bit_length(), MOST_FOUND)
        self._found = lane.empty((most, self._room, BOX.itemsize), np.uint8)
        self._keys = lane.empty((most, self._room, 8), np.uint8)
        # The kernel writes to the host's memory itself: that takes less than a copy that waits for it.
        told = self._pinned(most * (1 + MOST_KEPT) * BOX.itemsize)
        self._told_address = int(told.ctypes.data)
        self._host_told = told.view(np.float32).reshape(most, 1 + MOST_KEPT, 8)
        self._host_told_integers = self._host_told.view(np.int32)
        if table.weights:
            self._told = lane.empty((most, 1 + MOST_KEPT, BOX.itemsize), np.uint8)
            self._weights = lane.empty((most, MOST_KEPT, table.weights), np.float32)

    def _pinned(self, size: int) -> npt.NDArray[np.uint8]:
        block = self.lane.pinned(size)
        self._blocks.append(block)
        made: npt.NDArray[np.uint8] = np.asarray(block.handle)[:size]
        return made

    def _fixed_outputs(self, most: int) -> dict[str, DeviceArray] | None:
        """Memory for every output at the largest batch, or None where only a run tells an output's size."""
        outputs = self.lane.session.outputs
        if any(one.on_host or None in one.shape[1:] for one in outputs):
            return None
        return {one.name: self.lane.empty(tuple(size or most for size in one.shape), one.dtype) for one in outputs}

    def _describe(self, jobs: Sequence[Job]) -> list[int]:
        """Tell the kernels where each picture lies and how its boxes are chosen; where the pixels go, in bytes."""
        offsets, end = [], 0
        for job in jobs:
            offsets.append(end)
            end += -(-job.image.pixels.size // _ALIGNED) * _ALIGNED
        if self._pixels is None or self._pixels.nbytes < end:
            self._grow(end)
        assert self._pixels is not None
        base = self._pixels.address
        for index, (job, placed, offset) in enumerate(zip(jobs, self._next_placements, offsets, strict=True)):
            options = job.options
            how = (options.confidence, options.iou, min(options.max_detections, 1 << 30)) if options else (0.0, 0.0, 0)
            _picture.pack_into(
                self._host_pictures.data, index * PICTURE_BYTES, base + offset, placed.width, placed.height,
                placed.across, placed.down, placed.left, placed.top, 3 * placed.width, *how,
            )  # fmt: skip
            if self._table is not None and options is not None and options.classes != self._asked[index]:
                self._want(index, options.classes)
        if self._table is not None and self._wanted_is_new:
            _sdk.cuda.memcpy_htod_async(self._wanted.address, self._host_wanted, self.lane.stream)
            self._wanted_is_new = False
        return offsets

    def _want(self, index: int, classes: tuple[int, ...] | None) -> None:
        self._host_wanted[index] = classes is None
        if classes is not None:
            self._host_wanted[index, list(classes)] = 1
        self._asked[index] = classes
        self._wanted_is_new = True

    def _grow(self, size: int) -> None:
        """More memory for pixels. The lane's work is done whenever a batch is begun."""
        if self._pixels is not None:
            self._pixels.release()
        if self._pixels_block is not None:
            self._pixels_block.release()
        self._pixels = self._pixels_block = None
        block = self.lane.pinned(size)
        self._pixels = self.lane.empty((block.size,), np.uint8)
        self._pixels_block = block
        self._host_pixels = np.asarray(block.handle)[: block.size]

    def _fetch(self, pictures: Sequence[npt.NDArray[np.uint8]], offsets: Sequence[int]) -> None:
        """Have the GPU fetch pixels from where they are."""
        assert self._pixels is not None
        for pixels, offset in zip(pictures, offsets, strict=True):
            _sdk.cuda.memcpy_htod_async(self._pixels.address + offset, pixels, self.lane.stream)

    def _begin_copying(self, pictures: Sequence[npt.NDArray[np.uint8]], offsets: Sequence[int]) -> None:
        if offsets[-1] + pictures[-1].size <= CUT:
            for first, last in copied(self._host_pixels, offsets, pictures):
                self._upload(first, last)
            return
        self._copying = Copying(self._host_pixels, offsets, pictures)
        if self._copiers is not None:
            self._copiers.help(self._copying)

    def _upload(self, first: int, last: int) -> None:
        assert self._pixels is not None
        _sdk.cuda.memcpy_htod_async(self._pixels.address + first, self._host_pixels[first:last], self.lane.stream)

    def _launch(self, count: int) -> None:
        """Start the batch by its graph, or piece by piece where there is none."""
        if (graph := self._graphs.get(count)) is not None:
            graph.launch(self.lane.stream)  # before all else: the GPU waits for it
            self._made = self._outputs_for(count)
            return
        if self._fixed is not None:
            self._made = self._outputs_for(count)
            if (graph := self._recorded(count)) is not None:
                graph.launch(self.lane.stream)
                return
        self._before(count)
        into = None if self._fixed is None else self._made
        self._made = self.lane.run({self.reading.pixels.name: self._fed(count)}, into=into)
        self._after(count)

    def _recorded(self, count: int) -> Graph | None:
        """A new graph for batches of a size that comes back, where it is worth one and can be had."""
        if count > _SMALL_BATCH and count != self.most:
            return None
        if count not in self._came:
            self._came.add(count)
            return None
        graph = self.lane.record(
            {self.reading.pixels.name: self._fed(count)},
            self._made,
            before=lambda: self._before(count),
            after=lambda: self._after(count),
        )
        if graph is not None:
            self._graphs[count] = graph
        return graph

    def _before(self, count: int) -> None:
        assert self._kernels is not None
        described = self._host_pictures[: count * PICTURE_BYTES]
        _sdk.cuda.memcpy_htod_async(self._pictures.address, described, self.lane.stream)
        self._kernels.fit(
            self.lane.stream,
            self._input.dtype,
            count=count,
            pictures=self._pictures.address,
            into=self._input.address,
            size=(self.spec.width, self.spec.height),
            channels_last=self.reading.channels_last,
            factors=self._factors,
            offsets=self._offsets,
            counts=self._counts.address,
        )

    def _after(self, count: int) -> None:
        for name, host in self._host_read.items():
            array = self._made[name]
            _sdk.cuda.memcpy_dtoh_async(host[: array.shape[0]], array.address, self.lane.stream)
        table, kernels, stream = self._table, self._kernels, self.lane.stream
        if table is None or kernels is None:
            return
        output: DeviceArray = self._made[table.name]
        found, counts = self._found.address, self._counts.address
        copy = self._told.address if table.weights else 0
        kernels.collect(
            stream,
            output.dtype,
            count=count,
            pictures=self._pictures.address,
            table=output.address,
            layout=table.layout,
            wanted=self._wanted.address,
            room=self._room,
            found=found,
            counts=counts,
        )
        kernels.suppress(
            stream,
            count=count,
            pictures=self._pictures.address,
            room=self._room,
            found=found,
            counts=counts,
            keys=self._keys.address,
            told=self._told_address,
            copy=copy,
        )
        if table.weights:
            kernels.gather(
                stream,
                output.dtype,
                count=count,
                told=copy,
                table=output.address,
                layout=table.layout,
                weights=table.weights,
                coefficients=self._weights.address,
            )

    def _fed(self, count: int) -> DeviceArray:
        shape = (max(count, self._least), *self._input.shape[1:])
        return self._input.view(shape if self.reading.batched else shape[1:])

    def _outputs_for(self, count: int) -> dict[str, DeviceArray]:
        """The fixed outputs, in the shapes of a batch."""
        assert self._fixed is not None
        batch = max(count, self._least)
        made = {}
        for one in self.lane.session.outputs:
            array = self._fixed[one.name]
            made[one.name] = array.view((batch, *array.shape[1:])) if one.shape and one.shape[0] is None else array
        return made

    def _input_of(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        if len(batch) < self._least:
            batch = np.concatenate([batch, np.zeros((self._least - len(batch), *batch.shape[1:]), np.float32)])
        return self.reading.fed(batch).astype(self.lane.session.input(self.reading.pixels.name).dtype, copy=False)

    def _outputs(self, count: int) -> list[npt.NDArray[Any]]:
        """The outputs that are read, each with the pictures in front."""
        if self._kernels is not None and self._host_read:
            brought = {name: host[: self._made[name].shape[0]].copy() for name, host in self._host_read.items()}
        else:
            brought = self.lane.download_all({one.name: self._made[one.name] for one in self._read})
        none = np.zeros(0, np.float32)
        return self.reading.read([brought.get(one.name, none) for one in self.lane.session.outputs], count)

    def _seen(self, job: Job, index: int, outputs: Sequence[npt.NDArray[Any]]) -> Any:
        """What the host reads from the outputs for one picture."""
        assert job.options is not None
        read = read_candidates(outputs, self.spec, job.options)
        return self._result(job, index, suppress(read, self.spec, job.options))

    def _result(self, job: Job, index: int, found: Candidates) -> Any:
        placement = self._placements[index]
        return (found, placement) if job.make is None else job.make(found, placement)

    def _told_of(self, job: Job, index: int, kept: int, too_many: int) -> Any:
        """What the kernels found in one picture; where there was more than they keep, the host reads the outputs."""
        if too_many:
            outputs = [self._bring(self._made[one.name], index) for one in self._read]
            return self._seen(job, index, [self.reading.trimmed(output[None])[0] for output in outputs])
        rows = self._host_told[index, 1 : 1 + kept].copy()
        found = Candidates(rows[:, :4], rows[:, 4], rows.view(np.int32)[:, 5].astype(np.int64))
        if job.masks and kept:
            weights = self._bring(self._weights, index)[:kept]
            prototypes = self._bring(self._made[self._read[1].name], index)
            found = Candidates(found.boxes, found.scores, found.classes, weights, prototypes)
        return self._result(job, index, found)

    def _bring(self, array: DeviceArray, index: int) -> npt.NDArray[Any]:
        """The part of an array that belongs to one picture."""
        size = array.nbytes // array.shape[0]
        block = self.lane.pinned(size)
        staged = np.asarray(block.handle)[:size].view(array.dtype).reshape(array.shape[1:])
        _sdk.cuda.memcpy_dtoh_async(staged, array.address + index * size, self.lane.stream)
        self.lane.stream.synchronize()
        made: npt.NDArray[Any] = staged.copy()
        block.release()
        return made


def _read_together(jobs: Sequence[Job], rows: npt.NDArray[Any]) -> list[Any]:
    """The results of jobs from their rows of the first output, neighbours that are read alike at once."""
    made: list[Any] = []
    for read, group in groupby(jobs, key=lambda job: job.read):
        first = len(made)
        last = first + sum(1 for _ in group)
        made.extend(rows[first:last] if read is None else read(rows[first:last]))
    return made
