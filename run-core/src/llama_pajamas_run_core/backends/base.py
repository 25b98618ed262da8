"""What every backend has: a model that is loaded, and an end."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.tasks import Task


class Backend(ABC):
    """One model in one runtime.

    An object that was given a model is ready; without one, :meth:`load_model` makes it ready. ``with`` closes it.
    Native libraries are called from the one thread that loaded the model, :attr:`_owner`.

    Args:
        model: file or folder of the model, or None to load it later.
        options: the runtime's load options; see its class.

    Raises:
        LoadError: the model cannot be loaded.
        MissingDependency: the runtime's package is not installed.
    """

    #: What the backend does.
    task: ClassVar[Task]
    #: The runtime's short name ("gguf"), as in its RuntimeInfo.
    runtime: ClassVar[str]

    def __init__(self, model: str | PathLike[str] | None = None, **options: Any) -> None:
        self.path: Path | None = None
        self._owner: OwnerThread | None = None
        if model is not None:
            self.load_model(model, **options)

    @abstractmethod
    def _load(self, path: Path, **options: Any) -> None:
        """Load the model. Runs on the owner thread. On failure it must leave nothing behind."""

    @abstractmethod
    def _unload(self) -> None:
        """Free what :meth:`_load` made. Runs on the owner thread, once per load."""

    def _open_thread(self) -> OwnerThread:
        """The thread to load a model on. A runtime whose library wants one thread for all its models overrides this."""
        return OwnerThread(f"{self.runtime}-{self.task}")

    def load_model(self, model: str | PathLike[str], **options: Any) -> Self:
        """Load a model, in place of the one that is loaded.

        Args:
            model: file or folder of the model.
            options: the runtime's load options; see its class.

        Returns:
            the backend itself.

        Raises:
            LoadError: the model cannot be loaded; the message names the file and what is wrong with it.
            MissingDependency: the runtime's package is not installed.
        """
        self.close()
        owner = self._open_thread()
        path = Path(model).expanduser()
        try:
            owner.run(lambda: self._load(path, **options))
        except BaseException:
            owner.stop()
            raise
        self._owner, self.path = owner, path
        return self

    def close(self) -> None:
        """Free the model. Harmless when nothing is loaded."""
        owner, self._owner, self.path = self._owner, None, None
        if owner is not None:
            try:
                owner.run(self._unload)
            finally:
                owner.stop()

    @property
    def loaded(self) -> bool:
        """Whether a model is loaded."""
        return self._owner is not None

    @property
    def lanes(self) -> int:
        """How many requests it works on at once; the pool lets the others wait. 1 unless the runtime batches."""
        return 1

    @property
    def host_memory(self) -> int | None:
        """Bytes of the host's memory that the loaded model takes; None where the runtime does not know."""
        return None

    @property
    def details(self) -> Mapping[str, Any]:
        """Facts about the loaded model for people: device, precision, context length, ... JSON values only."""
        return {}

    def _ready(self) -> OwnerThread:
        """The thread that owns the model.

        Raises:
            BadInput: no model is loaded.
        """
        if self._owner is None:
            raise BadInput(f"{type(self).__name__} has no model.", hint="Call load_model(path) first.")
        return self._owner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
