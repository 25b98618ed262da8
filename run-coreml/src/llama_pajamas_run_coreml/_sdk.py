"""The one place that imports coremltools: late, because it takes seconds, and quietly."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from llama_pajamas_run_core.errors import MissingDependency

#: What installs it.
INSTALL: Final = "uv pip install coremltools"


@cache
def coremltools() -> Any:
    """The package coremltools.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        with _quiet():
            import coremltools as package
    except ImportError as error:
        raise MissingDependency("Core ML packages", package="coremltools", install=INSTALL) from error
    return package


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what coremltools says on import about other frameworks' versions, and about a system that is no Mac."""
    before = logging.root.manager.disable
    said = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if said is None:
            del os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"]
        else:
            os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = said
