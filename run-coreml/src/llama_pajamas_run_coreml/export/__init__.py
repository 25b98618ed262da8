"""From ONNX graphs and Whisper checkpoints to Core ML packages, without PyTorch.

Importing this package imports neither coremltools nor onnx.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llama_pajamas_run_core.artifacts.formats import identify, size_of
from llama_pajamas_run_core.artifacts.vision.spec import Options
from llama_pajamas_run_core.artifacts.whole import check_target, made_whole
from llama_pajamas_run_core.errors import BadInput, MissingDependency, Unsupported
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_coreml.description import (
    TOKENIZER,
    TextDescription,
    VisionDescription,
    WhisperDecoderDescription,
)
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_run_coreml.export.report import Change, Made
from llama_pajamas_run_coreml.samples import pictures

if TYPE_CHECKING:  # what needs the SDKs
    from llama_pajamas_run_coreml.export.plan import Plan

_SUFFIX: Final = ".mlpackage"
#: Pictures that a change is measured on where none are given.
_PICTURES: Final = 4
_INSTALL: Final = "uv pip install 'llama-pajamas-run-coreml[export]'"


def export(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    described: Options | None = None,
    shown: Sequence[Image] | None = None,
    overwrite: bool = False,
) -> list[Made]:
    """Export a model.

    Args:
        source: an ONNX vision model, the file or its folder; or the folder of a Whisper checkpoint.
        target: the package to make, its name ending in .mlpackage; for a model of two packages the folder to make.
        options: how; None takes every default.
        described: what nothing else tells about a vision model.
        shown: the pictures that a vision model's change is measured on; None takes made-up ones.
        overwrite: whether a target that is there already may be replaced.

    Returns:
        what was made: one package, or two.

    Raises:
        BadInput: the source or an option cannot be used, or the target exists or holds the source.
        LoadError: a file of the source is damaged.
        MissingDependency: a package that exporting needs is not installed.
        Unsupported: the model has what Core ML has not; the message names the node.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    options = options or ExportOptions()
    check_target(target, source=source, overwrite=overwrite)
    try:
        if _is_checkpoint(source):
            if described is not None and described != Options():
                raise BadInput(f"{source} is a checkpoint, which tells all about itself.", hint="Give no such options.")
            return _export_whisper(source, target, options, overwrite)
        _refuse_voices(source)
        return _export_vision(source, target, options, described or Options(), shown, overwrite)
    except ModuleNotFoundError as error:
        raise MissingDependency("Exporting to Core ML", package=str(error.name), install=_INSTALL) from error


def _is_checkpoint(source: Path) -> bool:
    """Whether a folder holds weights and no graph."""
    if not source.is_dir() or any(source.glob("*.onnx")) or any(source.glob("onnx/*.onnx")):
        return False
    return (source / "config.json").is_file() and any(source.glob("*.safetensors"))


def _refuse_voices(source: Path) -> None:
    """See that a source is no voice.

    Raises:
        Unsupported: it is one. VITS, which Piper's voices are, draws numbers (RandomNormalLike), and how long each
            sound lasts, and with it every later shape, follows from what it drew (NonZero): Core ML has neither.
    """
    if source.exists() and (found := identify(source)).task is Task.TTS:
        raise Unsupported(
            f"{source} is {found.label}, which Core ML cannot run: it draws random numbers, and how long its "
            "sounds last follows from them.",
            hint="ONNX Runtime serves it as it is: load it with run-onnx.",
            param="model",
        )


def _export_vision(
    source: Path,
    target: Path,
    options: ExportOptions,
    described: Options,
    shown: Sequence[Image] | None,
    overwrite: bool,
) -> list[Made]:
    from llama_pajamas_run_coreml.export.vision import plan_vision

    plans = plan_vision(source, options, described)
    _name(target, folder=plans.text is not None)
    with tempfile.TemporaryDirectory() as scratch, made_whole(target, overwrite=overwrite) as part:
        if plans.text is None:
            return [_vision(plans.image, part, target, options, shown, Path(scratch))]
        part.mkdir()
        made = [
            _vision(
                plan, part / f"{plan.name}{_SUFFIX}", target / f"{plan.name}{_SUFFIX}", options, shown, Path(scratch)
            )
            for plan in (plans.image, plans.text)
        ]
        assert plans.tokenizer is not None
        shutil.copyfile(plans.tokenizer, part / TOKENIZER)
        return made


def _vision(
    plan: "Plan", part: Path, path: Path, options: ExportOptions, shown: Sequence[Image] | None, scratch: Path
) -> Made:
    from llama_pajamas_run_coreml.export import measure

    plain = _make(plan, part, options, scratch)
    change: Change | None = None
    if options.measure:
        reference = _reference(plan, options, scratch)
        if isinstance(plan.description, VisionDescription):
            change = measure.measure_images(reference, part, plan.description, shown or pictures(_PICTURES))
        else:
            assert isinstance(plan.description, TextDescription)
            change = measure.measure_texts(reference, part, plan.description)
    return Made(path, plain, size_of(part), change)


def _export_whisper(source: Path, target: Path, options: ExportOptions, overwrite: bool) -> list[Made]:
    from llama_pajamas_run_coreml.export import measure
    from llama_pajamas_run_coreml.export.whisper.plan import plan_whisper

    _name(target, folder=True)
    plans = plan_whisper(source, options)
    with tempfile.TemporaryDirectory() as scratch, made_whole(target, overwrite=overwrite) as part:
        part.mkdir()
        both = (plans.encoder, plans.decoder)
        parts = (part / f"{plans.encoder.name}{_SUFFIX}", part / f"{plans.decoder.name}{_SUFFIX}")
        plain = [_make(plan, path, options, Path(scratch)) for plan, path in zip(both, parts, strict=True)]
        changes: tuple[Change | None, Change | None] = (None, None)
        if options.measure:
            assert isinstance(plans.decoder.description, WhisperDecoderDescription)
            references = tuple(_reference(plan, options, Path(scratch)) for plan in both)
            changes = measure.measure_speech((references[0], references[1]), parts, plans.decoder.description)
        return [
            Made(target / path.name, before, size_of(path), change)
            for path, before, change in zip(parts, plain, changes, strict=True)
        ]


def _make(plan: "Plan", path: Path, options: ExportOptions, scratch: Path) -> int:
    """Write a package; its size where its weights are not compressed."""
    from llama_pajamas_run_coreml.export.compress import compress
    from llama_pajamas_run_coreml.export.package import describe, save, to_model

    program, declared = plan.program(options.precision)
    model = to_model(program, declared, options.target, options.precision)
    plain = None if options.compression == "none" else size_of(save(model, scratch / f"{plan.name}-plain{_SUFFIX}"))
    model = compress(model, options)
    describe(model, plan.description, plan.short, plan.features)
    save(model, path)
    return size_of(path) if plain is None else plain


def _reference(plan: "Plan", options: ExportOptions, scratch: Path) -> Path:
    """The same model in float32, not compressed."""
    from llama_pajamas_run_coreml.export.package import save, to_model

    program, declared = plan.program("float32")
    model = to_model(program, declared, options.target, "float32")
    return save(model, scratch / f"{plan.name}-reference{_SUFFIX}")


def _name(target: Path, *, folder: bool) -> None:
    """See that the target's name is that of a package, or of a folder of packages."""
    if folder and target.suffix == _SUFFIX:
        raise BadInput(f"{target} would hold two packages.", hint="Name a folder without .mlpackage.", param="target")
    if not folder and target.suffix != _SUFFIX:
        raise BadInput(f"{target} must end in .mlpackage: Core ML knows packages by it.", param="target")
