"""A table of converters, filled by a decorator."""

from collections.abc import Callable
from typing import Any

from llama_pajamas_run_coreml.export.values import Step

Converter = Callable[[Step], Any]


class Table(dict[str, Converter]):
    """Operators of one kind, by name."""

    def op(self, *names: str) -> Callable[[Converter], Converter]:
        """Register a converter for operators."""

        def register(converter: Converter) -> Converter:
            for name in names:
                self[name] = converter
            return converter

        return register
