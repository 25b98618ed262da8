"""The lazy front of a runtime's package: its public names import a backend when they are first used."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from llama_pajamas_run_core.runtimes.info import RuntimeInfo

if TYPE_CHECKING:
    from llama_pajamas_run_core.backends.base import Backend


def lazy_backends(module: str, runtime: RuntimeInfo) -> Callable[[str], "type[Backend]"]:
    """A module's ``__getattr__`` (PEP 562) that gives the backends of a runtime by their class names.

    ``from llama_pajamas_run_gguf import GGUFLLMBackend`` then imports that backend's room, its SDK and nothing else.

    Args:
        module: the package's ``__name__``.
        runtime: its descriptor.
    """
    rooms = runtime.public_classes()

    def attribute(name: str) -> "type[Backend]":
        if name not in rooms:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return rooms[name].load_class()

    return attribute
