"""LoRA adapters by the names that requests give."""

from typing import Generic, Protocol, TypeVar

from llama_pajamas_run_core.errors import BadInput


class Named(Protocol):
    """A loaded adapter."""

    @property
    def name(self) -> str:
        """By which requests ask for it."""


A = TypeVar("A", bound=Named)


class NamedAdapters(Generic[A]):
    """The adapters of a model. A runtime adds how one is loaded, used and freed.

    All but :attr:`names` and :meth:`find` is for the thread that owns the model.
    """

    def __init__(self) -> None:
        self._known: dict[str, A] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may ask for."""
        return tuple(self._known)

    def find(self, name: str | None) -> A | None:
        """The adapter of that name; None for None.

        Raises:
            BadInput: there is none.
        """
        return None if name is None else self._get(name)

    def check(self, adapter: A | None) -> None:
        """See that an adapter that a request has found is still loaded: it may have gone while the request waited.

        Raises:
            BadInput: it is not.
        """
        if adapter is not None and self._get(adapter.name) is not adapter:
            raise BadInput(f"The adapter {adapter.name!r} was loaded anew.", hint="Ask again.", param="adapter")

    def _get(self, name: str) -> A:
        adapter = self._known.get(name)
        if adapter is None:
            there = f"Loaded: {', '.join(self._known)}." if self._known else "None is loaded."
            raise BadInput(f"There is no adapter {name!r}.", hint=there, param="adapter")
        return adapter

    def _check_free(self, name: str) -> None:
        """See that a name can be given.

        Raises:
            BadInput: it is taken.
        """
        if name in self._known:
            raise BadInput(f"There is an adapter {name!r} already.", hint="Unload it first.", param="name")
