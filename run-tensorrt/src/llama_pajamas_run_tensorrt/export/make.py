"""A model in ONNX into engines: one file, or a folder of several graphs that belong together."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.artifacts.vision.spec import Reading
from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU, find_device
from llama_pajamas_run_tensorrt._session import Session
from llama_pajamas_run_tensorrt._versions import Differences, differences
from llama_pajamas_run_tensorrt.derive import in_precision
from llama_pajamas_run_tensorrt.engine_file import EngineRecord, sidecar
from llama_pajamas_run_tensorrt.export.build import Progress, build_engine, profile_of
from llama_pajamas_run_tensorrt.export.calibrator import BatchesOnDevice, make_calibrator
from llama_pajamas_run_tensorrt.export.describe import description_of, vision_reading, with_image_size
from llama_pajamas_run_tensorrt.export.gate import Change, measure
from llama_pajamas_run_tensorrt.export.graph import Surgery, describe, load, prepare, source_checksum
from llama_pajamas_run_tensorrt.export.images import batches, read_images
from llama_pajamas_run_tensorrt.export.layers import LayerDifference, compare_layers
from llama_pajamas_run_tensorrt.export.options import BuildOptions
from llama_pajamas_run_tensorrt.export.quantize import quantized
from llama_pajamas_run_tensorrt.export.recordings import read_recordings
from llama_pajamas_run_tensorrt.export.reference import Reference
from llama_pajamas_run_tensorrt.export.spoken import measure_spoken
from llama_pajamas_run_tensorrt.export.whisper import whisper_feeds
from llama_pajamas_run_tensorrt.whisper_engines import whisper_batch, whisper_dims, whisper_sizes

#: Files beside a graph that a model needs at run time.
_BESIDE: Final = (".json", ".txt", ".model", ".tiktoken")
#: How files of engines are called.
_ENGINES: Final = (".engine", ".plan")
#: The graphs of a Whisper model.
_WHISPER: Final = ("encoder", "decoder")
#: Pictures that go through graph and engine to compare them; the reference runs on the CPU.
_COMPARED: Final = 128
#: Rows of made-up numbers where there are no pictures.
_MADE_UP: Final = 4

Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Made:
    """One engine.

    Attributes:
        engine: its file.
        record: its sidecar.
        change: what it loses against FP32; None where nothing could be compared.
        layers: what its layers give beside ONNX Runtime's, where that was asked for.
    """

    engine: Path
    record: EngineRecord
    change: Change | None
    layers: tuple[LayerDifference, ...] = ()

    def lines(self) -> list[str]:
        """What to tell people."""
        build, size = self.record.build, self.engine.stat().st_size
        told = [f"{self.engine}: {self.record.precision}, {size / 1e6:.1f} MB, built in {build['seconds']} s"]
        for profile in self.record.profiles:
            for name, shapes in profile.items():
                told.append(f"  {name}: " + " : ".join("x".join(map(str, shape)) for shape in shapes))
        if self.change is not None:
            told.append(f"  {self.change}")
        told += [f"  {layer}" for layer in self.layers]
        return told


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made, a graph at a time."""

    made: tuple[Made, ...]

    def lines(self) -> list[str]:
        """What to tell people."""
        return [line for one in self.made for line in one.lines()]


def export_model(
    model: Path,
    output: Path,
    options: BuildOptions,
    *,
    device: int | str | None = None,
    images: Path | Sequence[Image] | None = None,
    speech: Path | Sequence[Audio] | None = None,
    limit: float | None = None,
    force: bool = False,
    compare: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Build the engines of a model, and measure what they lose.

    Args:
        model: an ONNX file, or a folder with one or several.
        output: the engine file (.engine or .plan), or the folder of engines, with copies of what describes the model.
        options: how to build them.
        device: the GPU.
        images: pictures, or a folder of them: for INT8 to calibrate with, and to measure on.
        speech: recordings, or a folder of them: what a speech model's change of words is measured on.
        limit: the most that the figure may lose against FP32, in points of 100; None for the precision's own limit.
        force: whether engines that lose more are kept.
        compare: whether the layers' outputs are compared with ONNX Runtime's.
        progress: is told how far it is.

    Raises:
        BadInput: a file, an option or a size does not fit.
        LoadError: a file is damaged, or TensorRT cannot build it.
        OutOfMemory: memory ran out.
        Unsupported: TensorRT cannot read the graph, or an engine loses too much.
    """
    graphs = _graphs(model)
    pictures = read_images(images) if isinstance(images, Path) else list(images or ())
    recordings = _recordings(model, graphs, speech)
    gpu = find_device(device)
    several, into_file = len(graphs) > 1, output.suffix in _ENGINES
    if several and into_file:
        raise BadInput(f"{model} holds several graphs: the output has to be a folder.", param="output")
    _check_names(model, graphs, options)
    work = _Export(options, gpu, pictures, limit, force, compare, progress or _silent, bool(recordings))
    targets = [output if into_file else output / f"{graph.stem}.engine" for graph in graphs]
    for target in targets:
        _check_place(target)
    made: list[Made] = []
    try:
        for graph, target in zip(graphs, targets, strict=True):
            made.append(work.run(graph, target))
        if recordings:
            made = work.heard(graphs, made, recordings, output.name)
    except BaseException:
        for one, target in zip(made, targets, strict=False):
            _settle(one.engine, target, keep=force)
        raise
    for one, target in zip(made, targets, strict=True):
        _settle(one.engine, target, keep=True)
    if not into_file:
        _copy_beside(graphs[0], output)
    return Exported(tuple(replace(one, engine=target) for one, target in zip(made, targets, strict=True)))


@dataclass(frozen=True, slots=True)
class _Export:
    """What is the same for every graph of a model."""

    options: BuildOptions
    gpu: GPU
    pictures: Sequence[Image]
    limit: float | None
    force: bool
    compare: bool
    progress: Progress
    spoken: bool  # what is heard counts, not the numbers

    def run(self, graph: Path, target: Path) -> Made:
        """The engine of a graph, under a name of its own beside the target: one that is refused leaves what was there
        as it was.
        """
        table = differences(_sdk.version())
        plain = prepare(
            graph, table, outputs=self.options.outputs, batch=self.options.batch, shapes=self.options.shapes
        )
        speech = whisper_sizes(graph.parent) if graph.stem in _WHISPER else None
        reading = vision_reading(graph, plain) if speech is None else None
        options = self.options if speech is None else self._for_whisper(speech)
        if reading is not None:
            options = with_image_size(options, plain.inputs, reading)
        if options.precision == "int8" and (reading is None or not self.pictures):
            raise BadInput(
                "INT8 needs pictures to calibrate with." if reading else f"Nothing tells what pictures {graph} takes.",
                hint="Name a folder: --calibrate FOLDER." if reading else "Lay its config.json beside it.",
                param="calibrate",
            )
        part = target.with_name(f"{target.stem}.part{target.suffix}")
        try:
            with self._calibrator(plain, reading, options, table) as calibrator:
                record = build_engine(
                    self._in_precision(plain, reading, options, table),
                    part,
                    options,
                    self.gpu,
                    source=graph.name,
                    source_sha256=source_checksum(graph),
                    task="stt" if speech is not None else "vision" if reading is not None else "",
                    description=description_of(reading) if speech is None else read_json(graph.parent / "config.json"),
                    calibrator=calibrator,
                    progress=self.progress,
                )
            feeds = self._compared(plain, reading, record) if speech is None else whisper_feeds(graph, speech, options)
            return self._measured(Made(part, record, None), target.name, list(feeds), plain, reading, options)
        except BaseException:
            _settle(part, target, keep=self.force and part.is_file())
            raise

    def heard(self, graphs: Sequence[Path], made: Sequence[Made], recordings: Sequence[Audio], name: str) -> list[Made]:
        """The engines of a speech model with the words that they change.

        Raises:
            BadInput: the model hears no words.
            Unsupported: they change more than they may; ``name`` is for the message.
        """
        engines = {graph.stem: one.engine for graph, one in zip(graphs, made, strict=True)}
        folder = graphs[0].parent
        sizes = whisper_sizes(folder)
        assert sizes is not None
        self.progress("comparing words", None)
        change = measure_spoken(
            folder,
            (engines["encoder"], engines["decoder"]),
            sizes,
            recordings,
            device=self.gpu.index,
            precision=self.options.precision,
            limit=self.limit,
        )
        told = []
        for one in made:
            largest = one.change.largest if one.change is not None else 0.0
            whole = replace(change, largest=largest)
            record = replace(one.record, accuracy=whole.facts())
            record.write(one.engine)
            told.append(replace(one, record=record, change=whole))
        if not self.force:
            change.check(name)
        return told

    def _for_whisper(self, sizes: Dimensions) -> BuildOptions:
        """The options, with the sizes that the speech room runs the graphs with."""
        if self.options.precision == "int8":
            raise Unsupported("Speech models are built in FP32 or FP16.", param="precision")
        return replace(
            self.options,
            batch=self.options.batch or whisper_batch(),
            dims={**whisper_dims(sizes), **self.options.dims},
        )

    def _in_precision(
        self, plain: Surgery, reading: Reading | None, options: BuildOptions, table: Differences
    ) -> Surgery:
        if options.precision == "int8" and not options.calibrator:
            assert reading is not None
            calibrated = quantized(plain, lambda: self._feeds(reading, self.pictures, 16), tell=self.progress)
            return in_precision(calibrated, options, table)
        return in_precision(plain, options, table)

    @contextmanager
    def _calibrator(
        self, plain: Surgery, reading: Reading | None, options: BuildOptions, table: Differences
    ) -> Iterator[Any]:
        if options.precision != "int8" or not options.calibrator:
            yield None
            return
        if not table.calibrators:
            raise BadInput(f"TensorRT {table.series} has no calibrators: leave --calibrator away.", param="calibrator")
        assert reading is not None
        profile = profile_of(plain, options, "the graph")
        size = profile[reading.pixels.name][1][0] if profile else reading.batch or 1
        size = min(size, len(self.pictures))
        with self.gpu.current():
            held = BatchesOnDevice(self._feeds(reading, self.pictures, size), size)
            try:
                yield make_calibrator(held)
            finally:
                held.close()

    def _feeds(self, reading: Reading, pictures: Sequence[Image], size: int) -> Iterator[Feeds]:
        for batch in batches(pictures, reading, size):
            yield {reading.pixels.name: batch}

    def _measured(
        self,
        made: Made,
        name: str,
        feeds: Sequence[Feeds],
        plain: Surgery,
        reading: Reading | None,
        options: BuildOptions,
    ) -> Made:
        """The engine with what it loses.

        Raises:
            Unsupported: it loses more than it may; ``name`` is for the message.
        """
        reference = Reference(plain.model)
        with Session(made.engine, device=self.gpu.index, graphs=False) as session:
            change = measure(
                reference.run, session.infer, feeds, precision=options.precision, reading=reading, limit=self.limit
            )
            record = replace(made.record, accuracy=change.facts())
            record.write(made.engine)
            if not self.force and not self.spoken:
                change.check(name)
        layers: tuple[LayerDifference, ...] = ()
        if self.compare:
            layers = compare_layers(plain, options, self.gpu, feeds[0], self.progress)
        return replace(made, record=record, change=change, layers=layers)

    def _compared(self, plain: Surgery, reading: Reading | None, record: EngineRecord) -> Iterator[Feeds]:
        """What graph and engine are compared on: pictures, else numbers made up within the profile."""
        profile: Mapping[str, Any] = record.profiles[0] if record.profiles else {}
        if reading is not None and self.pictures:
            low, best, _ = profile.get(reading.pixels.name, ((1,), (reading.batch or 1,), (1,)))
            pictures = list(self.pictures[:_COMPARED])
            pictures += pictures[: (-len(pictures)) % low[0]]
            yield from self._feeds(reading, pictures, best[0])
            return
        rng = np.random.default_rng(0)
        for _ in range(_MADE_UP):
            yield {one.name: _made_up(rng, one.dtype, _best(one.shape, profile.get(one.name))) for one in plain.inputs}


def _best(shape: tuple[int | str | None, ...], profile: Any) -> tuple[int, ...]:
    if profile is not None:
        return tuple(profile[1])
    return tuple(size if isinstance(size, int) else 1 for size in shape)


def _made_up(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.random(shape).astype(kind)
    return np.ones(shape, kind)  # whole numbers are indices or masks, and 1 is one of both


def _graphs(model: Path) -> list[Path]:
    if not model.is_dir():
        if not model.exists():
            raise BadInput(f"There is no file {model}.", param="model")
        return [model]
    found = sorted(model.glob("*.onnx")) or sorted(model.glob("onnx/*.onnx"))
    if not found:
        raise BadInput(f"{model} holds no .onnx file.", param="model")
    return found


def _check_names(model: Path, graphs: Sequence[Path], options: BuildOptions) -> None:
    """See that every free size that was given is one of some graph.

    Raises:
        BadInput: it is not.
    """
    if not options.dims:
        return
    names = {size for graph in graphs for one in describe(load(graph), (), {}).inputs for size in one.shape}
    known = sorted(size for size in names if isinstance(size, str))
    if unknown := [name for name in options.dims if name not in known]:
        have = f"it has {', '.join(known)}" if known else "it leaves none free"
        raise BadInput(f"{model} has no free size '{unknown[0]}'; {have}.", param="dim")


def _check_place(output: Path) -> None:
    """See before a build of minutes that what it makes can be kept.

    Raises:
        BadInput: it cannot.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{output.parent} cannot be made: {error.strerror or error}.", param="output") from error
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        why = "it is a folder" if output.is_dir() else f"{output.parent} is not writable"
        raise BadInput(f"{output} cannot be written: {why}.", param="output")


def _recordings(model: Path, graphs: Sequence[Path], speech: Path | Sequence[Audio] | None) -> list[Audio]:
    recordings = read_recordings(speech) if isinstance(speech, Path) else list(speech or ())
    heard = {graph.stem for graph in graphs} == set(_WHISPER) and whisper_sizes(graphs[0].parent) is not None
    if recordings and not heard:
        raise BadInput(f"{model} is no speech model: nothing hears the recordings.", param="speech")
    return recordings


def _settle(part: Path, target: Path, *, keep: bool) -> None:
    """Give an engine its name, or remove it."""
    if keep:
        sidecar(part).replace(sidecar(target))
        part.replace(target)
    else:
        part.unlink(missing_ok=True)
        sidecar(part).unlink(missing_ok=True)


def _copy_beside(graph: Path, output: Path) -> None:
    """Copy what describes a graph: from its folder, or in Hugging Face's layout from the one above ``onnx``."""
    folder = graph.parent
    if folder.name == "onnx" and not (folder / "config.json").exists():
        folder = folder.parent
    for file in sorted(folder.iterdir()):
        ours = file.name.endswith(tuple(f"{suffix}.json" for suffix in _ENGINES))
        if file.suffix in _BESIDE and not ours and folder.resolve() != output.resolve():
            shutil.copyfile(file, output / file.name)


def _silent(phase: str, share: float | None) -> None:
    """Where nobody wants to know how far it is."""
