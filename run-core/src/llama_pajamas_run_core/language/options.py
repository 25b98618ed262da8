"""Load options, from keyword arguments."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from llama_pajamas_run_core.errors import BadInput

T = TypeVar("T")


def read_options(kind: type[T], options: Mapping[str, Any], least: Mapping[str, int]) -> T:
    """A runtime's load options.

    Args:
        kind: the dataclass of the options, each with a default; None always means "choose for me".
        options: keyword arguments.
        least: those that are whole numbers, with the least that each may be.

    Raises:
        BadInput: there is no such option, or a number is none or too small.
    """
    known = [known.name for known in fields(kind)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise BadInput(f"There is no load option {name!r}; there are {', '.join(known)}.", param=name)
    for name, lowest in least.items():
        value = options.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < lowest):
            raise BadInput(f"{name} must be a whole number of at least {lowest}, not {value!r}.", param=name)
    if not isinstance(adapters := options.get("adapters", {}), Mapping):
        raise BadInput(f"adapters maps names to files or folders, and is not {adapters!r}.", param="adapters")
    return kind(**options)
