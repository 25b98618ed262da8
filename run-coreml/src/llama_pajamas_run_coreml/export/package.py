"""From programs to packages on disk."""

import hashlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.errors import LoadError, PajamasError
from llama_pajamas_run_coreml.description import Description, Origin, to_metadata
from llama_pajamas_run_coreml.export._mil import ct
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_run_coreml.export.targets import opset, precision_of

SUFFIX: Final = ".mlpackage"
_DISTRIBUTION: Final = "llama-pajamas-run-coreml"


def origin(source: Path, files: Iterable[Path], options: ExportOptions) -> Origin:
    """What a package says about where it comes from.

    Args:
        source: what was exported.
        files: its graph and weights.
        options: how.
    """
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Origin(
        source.name, digest.hexdigest(), version(_DISTRIBUTION), options.target, options.precision, options.compression
    )


def to_model(program: Any, declared: list[Any], target: str, precision: str) -> Any:
    """Coremltools' model of a program.

    Raises:
        LoadError: coremltools refuses the program.
    """
    try:
        with quiet():
            return ct.convert(
                program,
                convert_to="mlprogram",
                inputs=declared,
                minimum_deployment_target=opset(target),
                compute_precision=precision_of(precision),
                skip_model_load=True,
            )
    except PajamasError:
        raise
    except Exception as error:  # coremltools raises errors of every kind
        raise LoadError(f"Core ML's converter refuses the program: {error}.") from error


def describe(model: Any, description: Description, short: str, features: Mapping[str, str]) -> None:
    """Write into a model what it is: for the runtime, and for people who look at it in Xcode.

    Args:
        model: coremltools' model.
        description: for the runtime.
        short: what it does, in a sentence.
        features: what an input or output is, by its name.
    """
    model.short_description = short
    model.version = description.origin.version
    about = model.get_spec().description
    for kind, side in ((model.input_description, about.input), (model.output_description, about.output)):
        for name in {feature.name for feature in side} & features.keys():
            kind[name] = features[name]
    for key, value in to_metadata(description).items():
        model.user_defined_metadata[key] = value


def save(model: Any, path: Path) -> Path:
    """Write a package.

    Args:
        model: coremltools' model.
        path: where to; its name ends in .mlpackage.
    """
    with quiet():
        model.save(str(path))
    return path


@contextmanager
def quiet() -> Iterator[None]:
    """Without coremltools' remarks on single operations, which say nothing that whoever exports could act on."""
    logger = logging.getLogger("coremltools")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
