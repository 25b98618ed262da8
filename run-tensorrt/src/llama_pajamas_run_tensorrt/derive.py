"""Engines made from ONNX graphs when they are first asked for, and kept for the next time.

Each GPU, TensorRT version and choice of options has an engine of its own in the cache folder. Two processes that ask
for the same build it once.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU, find_device
from llama_pajamas_run_tensorrt._versions import Differences, differences
from llama_pajamas_run_tensorrt.engine_file import EngineRecord, checksum, engine_cache
from llama_pajamas_run_tensorrt.export.graph import Surgery
from llama_pajamas_run_tensorrt.export.options import (
    BuildOptions,
    check_range,
    parse_precision,
    parse_range,
)
from llama_pajamas_run_tensorrt.files import alone

logger = logging.getLogger(__name__)

#: Raised when a change of the export makes engines of earlier versions worthless.
_RECIPE: Final = 2


def engine_for(
    graph: Path,
    options: BuildOptions | None = None,
    *,
    device: GPU | int | str | None = None,
    task: str = "",
    description: Mapping[str, Any] | None = None,
) -> Path:
    """The engine of an ONNX graph for this machine: from the cache, or built now, which takes seconds to minutes.

    Args:
        graph: the ONNX file.
        options: how to build it; FP16 with a batch of 1 to 64 where sizes are free if None.
        device: the GPU that is to run it; the first if None.
        task: "vision" or "stt", for the engine's sidecar.
        description: how the task's room uses it, for the sidecar.

    Returns:
        the engine's file, in the cache; its sidecar lies beside it.

    Raises:
        BadInput: there is no such file or GPU, or an option does not fit the graph.
        LoadError: TensorRT cannot build it; the message says why.
        MissingDependency: a package that building needs is not installed.
        OutOfMemory: memory ran out.
        Unsupported: the graph uses what this TensorRT cannot read.
    """
    from llama_pajamas_run_tensorrt.export.build import build_engine
    from llama_pajamas_run_tensorrt.export.graph import prepare, source_checksum

    options = options or BuildOptions()
    if options.precision == "int8":
        raise BadInput(
            "INT8 needs images to calibrate with.",
            hint="Build the engine once: llama-pajamas export tensorrt MODEL.onnx --precision int8 --calibrate FOLDER",
            param="precision",
        )
    gpu = device if isinstance(device, GPU) else find_device(device)
    source = source_checksum(graph)
    path = engine_cache() / "engines" / f"{graph.stem}-{_key(source, gpu, options, task, description)}.engine"
    with alone(path):
        if _whole(path):
            return path
        logger.warning(
            "engine=%s is built from %s with %s for %s: this takes seconds to minutes, once",
            path.name, graph, options.precision, gpu.name,
        )  # fmt: skip
        table = differences(_sdk.version())
        surgery = prepare(graph, table, outputs=options.outputs, batch=options.batch, shapes=options.shapes)
        record = build_engine(
            in_precision(surgery, options, table),
            path,
            options,
            gpu,
            source=graph.name,
            source_sha256=source,
            task=task,
            description=description,
            progress=_log_progress(path.name),
        )
        logger.warning("engine=%s built in %s s", path.name, record.build["seconds"])
    return path


def in_precision(surgery: Surgery, options: BuildOptions, table: Differences) -> Surgery:
    """The graph in the precision asked for, where the types in it decide (TensorRT 11); else as it is."""
    if not table.strongly_typed or options.precision == "fp32":
        return surgery
    from llama_pajamas_run_tensorrt.export.halve import halved

    return halved(surgery)


def is_onnx(path: Path) -> bool:
    """Whether a path is an ONNX graph, or a folder of them, rather than engines."""
    if path.is_dir():
        return not any(path.glob("*.engine")) and bool([*path.glob("*.onnx"), *path.glob("onnx/*.onnx")])
    return path.suffix.lower() == ".onnx"


def _key(source: str, gpu: GPU, options: BuildOptions, task: str, description: Mapping[str, Any] | None) -> str:
    about = {
        "recipe": _RECIPE, "source": source, "tensorrt": _sdk.version(), "capability": gpu.capability, "gpu": gpu.name,
        "options": {**asdict(options), "tactics": options.tactic_names}, "task": task,
        "description": description or {},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _whole(path: Path) -> bool:
    """Whether the cache has the engine as it was written; what is damaged is built again."""
    try:
        record = EngineRecord.read(path)
        return record is not None and record.sha256 == checksum(path)
    except LoadError as error:
        logger.info("engine=%s is built again: %s", path.name, error)
        return False


def _log_progress(name: str) -> Any:
    told: dict[str, int] = {}

    def tell(phase: str, share: float | None) -> None:
        tenth = -1 if share is None else int(share * 10)
        if told.get(phase) != tenth:
            told[phase] = tenth
            logger.info("engine=%s %s %s", name, phase, "" if share is None else f"{share:.0%}")

    return tell


def vision_engine(
    path: Path,
    *,
    precision: str = "fp16",
    batch: str | int | tuple[int, int, int] | None = None,
    level: int = 3,
    device: GPU | int | str | None = None,
    options: Any = None,
) -> Path:
    """The engine of an ONNX vision model for this machine, with its description in the sidecar.

    Args:
        path: the graph, or the folder it lies in.
        precision: "fp32" or "fp16".
        batch: batch sizes, one, or smallest, best and largest ("1:8:64"), which is also what None stands for where the
            graph leaves them free.
        level: how long TensorRT searches, 0 to 5.
        device: the GPU that is to run it; the first if None.
        options: what the caller says about the model (:class:`~llama_pajamas_run_core.artifacts.vision.spec.Options`).

    Raises:
        BadInput, LoadError, MissingDependency, OutOfMemory, Unsupported: as :func:`engine_for`.
    """
    from llama_pajamas_run_core.artifacts.vision.files import find_files
    from llama_pajamas_run_tensorrt.export.describe import description_of, vision_reading, with_image_size
    from llama_pajamas_run_tensorrt.export.graph import describe, load

    graph = find_files(path).image
    sizes = check_range(batch, "batch") if isinstance(batch, tuple) else None
    if batch is not None and sizes is None:
        sizes = parse_range(str(batch))
    built = BuildOptions(precision=parse_precision(precision), batch=sizes, level=level)
    model = load(graph)
    surgery = describe(model, (), {entry.key: entry.value for entry in model.metadata_props})
    reading = vision_reading(graph, surgery, options)
    if reading is not None:
        built = with_image_size(built, surgery.inputs, reading)
    return engine_for(graph, built, device=device, task="vision", description=description_of(reading))
