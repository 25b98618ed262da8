"""The table of operations: what each kind is called, and the function that does it.

Functions take what the program gives them under the names of MIL's parameters: numbers as arrays (float32 for both
precisions), texts as str. They return an array, or a tuple of them where the operation has several results, and change
nothing that they were given. Interface: coremltools.converters.mil.mil.ops.defs.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from llama_pajamas_run_core.errors import Unsupported

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operation.

    Attributes:
        name: as in a program.
        function: what does it.
        exact: whether its results are numbers that it was given, so that there is nothing to round.
        lists: the parameters that take several values.
        parameters: all parameters.
        required: those that have no default.
    """

    name: str
    function: Function
    exact: bool
    lists: frozenset[str]
    parameters: frozenset[str]
    required: frozenset[str]

    def check(self, given: frozenset[str]) -> None:
        """See that the parameters are those that are known.

        Raises:
            Unsupported: a parameter is unknown or missing.
        """
        if unknown := sorted(given - self.parameters):
            raise Unsupported(f"The operation {self.name} has the parameter {unknown[0]}, which is not known here.")
        if missing := sorted(self.required - given):
            raise Unsupported(f"The operation {self.name} lacks the parameter {missing[0]}.")


#: Every kind that is known, by name.
KINDS: Final[dict[str, Kind]] = {}


def op(
    *names: str, exact: bool = False, lists: tuple[str, ...] = (), ignored: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Enter a function into the table.

    Args:
        names: the kinds that it does.
        exact: whether its results are numbers that it was given.
        lists: parameters that take several values.
        ignored: parameters that change nothing here, and are not passed.
    """

    def enter(function: Function) -> Function:
        known = inspect.signature(function).parameters
        required = frozenset(name for name, one in known.items() if one.default is inspect.Parameter.empty)

        def call(**given: Any) -> Any:
            return function(**{name: value for name, value in given.items() if name not in ignored})

        for name in names:
            parameters = frozenset(known) | frozenset(ignored)
            KINDS[name] = Kind(name, call if ignored else function, exact, frozenset(lists), parameters, required)
        return function

    return enter
