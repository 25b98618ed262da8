"""A package that is to be made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llama_pajamas_run_coreml.description import Description


@dataclass(frozen=True, slots=True)
class Plan:
    """A package that is to be made.

    Attributes:
        name: of the package in a folder of several, without the suffix.
        description: what it will say of itself.
        short: what it does, in a sentence.
        features: what its inputs and outputs are, by name.
        program: makes a new program for a precision ("float16", "float32"), and coremltools' declarations of its
            inputs.
    """

    name: str
    description: Description
    short: str
    features: Mapping[str, str]
    program: Callable[[str], tuple[Any, list[Any]]]
