"""A cleaned graph into an engine file with its sidecar, on the GPU that is to run it."""

import ctypes
import errno
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.errors import BadInput, LoadError, OutOfMemory, Unsupported
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU
from llama_pajamas_run_tensorrt._versions import Differences, differences
from llama_pajamas_run_tensorrt.engine_file import (
    EngineRecord,
    Profile,
    checksum,
    remember_made_here,
)
from llama_pajamas_run_tensorrt.export.graph import Surgery, serialized
from llama_pajamas_run_tensorrt.export.options import DEFAULT_BATCH, BuildOptions
from llama_pajamas_run_tensorrt.export.timings import Timings
from llama_pajamas_run_tensorrt.files import write_whole

logger = logging.getLogger(__name__)

#: Told what a build does: the phase and the share of it that is done, 0 to 1, or None where that is unknown.
Progress = Callable[[str, float | None], None]


def build_engine(
    surgery: Surgery,
    output: Path,
    options: BuildOptions,
    device: GPU,
    *,
    source: str,
    source_sha256: str,
    task: str = "",
    description: Mapping[str, Any] | None = None,
    calibrator: Any = None,
    progress: Progress | None = None,
) -> EngineRecord:
    """Build an engine and write it with its sidecar.

    Args:
        surgery: the cleaned graph; for "int8" without a calibrator it has Q/DQ nodes.
        output: the engine file.
        options: how.
        device: the GPU; the engine runs on GPUs of its kind alone.
        source: the name of the graph it comes from.
        source_sha256: its checksum.
        task: "vision" or "stt", for the sidecar.
        description: how the task's room uses it, for the sidecar.
        calibrator: makes TensorRT's calibrator, where the options ask for it.
        progress: is told how far it is.

    Returns:
        what the sidecar says.

    Raises:
        BadInput: an option does not fit the graph or this TensorRT.
        LoadError: TensorRT cannot build it; the message says why.
        OutOfMemory: memory ran out.
        Unsupported: the graph uses what this TensorRT cannot read.
    """
    began = time.monotonic()
    table = differences(_sdk.version())
    log = _sdk.make_log()
    with device.current(), _sdk.mapped(LoadError, f"{source} could not be built", log):
        builder = _sdk.tensorrt.Builder(log)
        network = builder.create_network(_network_flags(table))
        parser = _sdk.tensorrt.OnnxParser(network, log)
        if not parser.parse(serialized(surgery.model)):
            told = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise Unsupported(
                f"TensorRT {_sdk.version()} cannot read {source}: {' '.join(told.split())[:800] or log.told()}."
            )
        config = builder.create_builder_config()
        used = _configure(config, options, table)
        profile = profile_of(surgery, options, source)
        _set_profile(builder, config, profile, surgery)
        if calibrator is not None:
            config.int8_calibrator = calibrator
            _set_calibration_profile(builder, config, profile, calibrator.get_batch_size())
        monitor = _watch(config, table, progress)
        timings = Timings.of(device)
        timings.give(config)
        logger.info("engine=%s precision=%s building", output.name, options.precision)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            said = log.told()
            if said == "TensorRT says no more":
                said = "it found no way to compute some layer, perhaps because of the tactic sources or the workspace"
            raise LoadError(f"{source} could not be built: {said}.")
        if log.errors:  # of tactics that it then left out, or worse
            logger.warning("engine=%s is built, but TensorRT said: %s", output.name, log.told())
        timings.keep(config)
        data = bytes(plan)
        del plan, config, parser, network, builder, monitor
    try:
        write_whole(output, data)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutOfMemory(f"{output} does not fit on the disk: {len(data):,} bytes.") from error
        raise BadInput(f"{output} cannot be written: {error.strerror or error}.", param="output") from error
    digest = checksum(output)
    record = EngineRecord(
        sha256=digest,
        tensorrt=_sdk.version(),
        cuda=_cuda_version(),
        capability=device.capability,
        gpu=device.name,
        precision=options.precision,
        profiles=(profile,) if profile else (),
        source=source,
        source_sha256=source_sha256,
        task=task,
        description=dict(description or {}),
        build={
            "seconds": round(time.monotonic() - began, 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": f"llama-pajamas-run-tensorrt {package_version('llama-pajamas-run-tensorrt')}",
            "level": options.level,
            "tactics": list(used),
            "int8": None if options.precision != "int8" else "calibrator" if calibrator is not None else "Q/DQ",
            "bytes": len(data),
        },
    )
    record.write(output)
    remember_made_here(digest)
    return record


def profile_of(surgery: Surgery, options: BuildOptions, source: str) -> Profile:
    """For each input its smallest, best and largest shape; empty where no size is free.

    Raises:
        BadInput: a free size is given nowhere, or a given one contradicts the graph.
    """
    given = dict(options.shapes)
    profile: dict[str, Any] = {}
    for tensor in surgery.inputs:
        if (shapes := given.pop(tensor.name, None)) is not None:
            _agree(tensor.name, tensor.shape, shapes)
            profile[tensor.name] = shapes
            continue
        ranges = []
        for axis, size in enumerate(tensor.shape):
            if isinstance(size, int):
                ranges.append((size, size, size))
            elif isinstance(size, str) and size in options.dims:
                ranges.append(options.dims[size])
            elif axis == 0:
                ranges.append(options.batch or DEFAULT_BATCH)
            else:
                name = size or f"axis {axis}"
                raise BadInput(
                    f"{source} leaves the size '{name}' of its input '{tensor.name}' free.",
                    hint=f"Give it: --dim {size}=smallest:best:largest, or --shape {tensor.name}=... as a whole.",
                    param="dim",
                )
        low, best, high = zip(*ranges, strict=True) if ranges else ((), (), ())
        profile[tensor.name] = (low, best, high)
    if given:
        names = ", ".join(tensor.name for tensor in surgery.inputs)
        raise BadInput(f"{source} has no input '{next(iter(given))}'; it has {names}.", param="shape")
    free = any(not isinstance(size, int) for tensor in surgery.inputs for size in tensor.shape)
    return profile if free else {}


def _agree(name: str, shape: tuple[int | str | None, ...], given: Any) -> None:
    for one in given:
        fits = len(one) == len(shape) and all(
            not isinstance(size, int) or size == wanted for size, wanted in zip(shape, one, strict=True)
        )
        if not fits:
            expected = ", ".join(str(size) for size in shape)
            raise BadInput(f"The input '{name}' is [{expected}], not {list(one)}.", param="shape")


def _network_flags(table: Differences) -> int:
    flags = _sdk.tensorrt.NetworkDefinitionCreationFlag
    if table.explicit_batch:
        return 1 << int(flags.EXPLICIT_BATCH)
    if table.strongly_typed and hasattr(flags, "STRONGLY_TYPED"):
        return 1 << int(flags.STRONGLY_TYPED)
    return 0


def _configure(config: Any, options: BuildOptions, table: Differences) -> tuple[str, ...]:
    """Set what the options ask for; the tactic sources used, empty for TensorRT's own choice."""
    trt = _sdk.tensorrt
    config.builder_optimization_level = options.level
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not table.strongly_typed:
        if options.precision in ("fp16", "int8"):
            config.set_flag(trt.BuilderFlag.FP16)
        if options.precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
    if options.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, it rounds to ten bits
    if table.profile_sharing:
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    return _choose_tactics(config, options.tactic_names or _usable_tactics(table))


def _usable_tactics(table: Differences) -> tuple[str, ...] | None:
    """TensorRT's tactic sources without those whose library is an empty stand-in; None where all are what they seem.

    TensorRT 8.6 is linked to cuBLAS and cuDNN. Where those are not to be had, libraries of their names without their
    functions let it load, and it crashes on a tactic that calls them.
    """
    empty = [name for name, (libraries, symbol) in table.tactic_libraries.items() if _lacks(libraries, symbol)]
    if not empty:
        return None
    logger.info("tactic sources %s are left out: their libraries are empty", ", ".join(empty))
    sources = [word for word in dir(_sdk.tensorrt.TacticSource) if word.isupper()]
    return tuple(name for name in sources if name not in empty)


def _lacks(libraries: tuple[str, ...], symbol: str) -> bool:
    for name in libraries:
        try:
            return not hasattr(ctypes.CDLL(name), symbol)
        except OSError:  # TensorRT finds it elsewhere, or says itself that it does not
            continue
    return False


def _choose_tactics(config: Any, names: tuple[str, ...] | None) -> tuple[str, ...]:
    trt = _sdk.tensorrt
    if names is None:
        return ()
    mask = 0
    for name in names:
        if not hasattr(trt.TacticSource, name):
            known = ", ".join(word for word in dir(trt.TacticSource) if word.isupper())
            raise BadInput(f"There is no tactic source '{name}'.", hint=f"There are: {known}.", param="tactics")
        mask |= 1 << _number(getattr(trt.TacticSource, name))
    config.set_tactic_sources(mask)
    return names


def _number(member: Any) -> int:
    return int(getattr(member, "value", member))


def _set_profile(builder: Any, config: Any, profile: Profile, surgery: Surgery) -> None:
    if not profile:
        return
    made = builder.create_optimization_profile()
    for tensor in surgery.inputs:
        low, best, high = profile[tensor.name]
        made.set_shape(tensor.name, low, best, high)
    if config.add_optimization_profile(made) < 0:
        raise BadInput(f"TensorRT does not take these shapes: {dict(profile)}.")


def _set_calibration_profile(builder: Any, config: Any, profile: Profile, batch: int) -> None:
    """Calibrate at just the size of the batches; without this TensorRT takes the best size of the profile."""
    if not profile:
        return
    made = builder.create_optimization_profile()
    for name, (_, best, _) in profile.items():
        shape = (batch, *best[1:])
        made.set_shape(name, shape, shape, shape)
    config.set_calibration_profile(made)


@cache
def _monitor_class(module: Any) -> type:
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        """Tells how far the phases of a build are."""

        def __init__(self, tell: Progress) -> None:
            module.IProgressMonitor.__init__(self)
            self._tell = tell
            self._steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps
            self._tell(name, 0.0)

        def step_complete(self, name: str, step: int) -> bool:
            self._tell(name, (step + 1) / max(self._steps.get(name, 1), 1))
            return True

        def phase_finish(self, name: str) -> None:
            self._tell(name, 1.0)

    return Monitor


def _watch(config: Any, table: Differences, progress: Progress | None) -> Any:
    """Let a build tell how far it is; what has to be kept until its end."""
    if progress is None:
        return None
    if not table.progress:
        progress("building (TensorRT 8.6 does not tell how far it is)", None)
        return None
    monitor = _monitor_class(_sdk.tensorrt)(progress)
    config.progress_monitor = monitor
    return monitor


def _cuda_version() -> str:
    number = int(_sdk.cuda.get_driver_version())
    return f"{number // 1000}.{number % 1000 // 10}"
