"""LoRA adapters: small sets of weights that are added to the model's for some requests."""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from llama_pajamas_run_core.errors import InferenceError, LoadError
from llama_pajamas_run_core.language.adapters import NamedAdapters
from llama_pajamas_run_gguf import logs
from llama_pajamas_run_gguf._session import Session, check_file, reason


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A loaded adapter.

    Attributes:
        name: by which requests ask for it.
        native: llama.cpp's.
        scale: how strongly it is applied; 1 as it was trained.
    """

    name: str
    native: Any
    scale: float


class Adapters(NamedAdapters[Adapter]):
    """The adapters of a model. llama.cpp applies one to a whole decode call, so each call serves one adapter's share.

    Args:
        session: the loaded model.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._applied: dict[int, Adapter | None] = {}  # by context

    def load(self, name: str, path: Path, scale: float) -> None:
        """Load an adapter.

        Raises:
            BadInput: the name is taken.
            LoadError: the file is missing, damaged, or no adapter for this model.
        """
        self._check_free(name)
        check_file(path)
        with logs.collected() as lines:
            native = llama_cpp.llama_adapter_lora_init(self._session.model, str(path).encode())
        if not native:
            raise LoadError(f"{path} is no LoRA adapter for {self._session.path.name}{reason(lines)}")
        self._known[name] = Adapter(name, native, scale)

    def unload(self, name: str) -> Adapter:
        """Free an adapter, which no request may be using."""
        adapter = self._get(name)
        for context in [context for context, applied in self._applied.items() if applied is adapter]:
            self.apply(None, context)
        del self._known[name]
        llama_cpp.llama_adapter_lora_free(adapter.native)
        return adapter

    def apply(self, adapter: Adapter | None, context: Any) -> None:
        """Have the next decode calls in a context use an adapter, or none."""
        if adapter is self._applied.get(context):
            return
        count = 0 if adapter is None else 1
        natives: Any = (llama_cpp.llama_adapter_lora_p_ctypes * 1)()
        if adapter is not None:
            natives[0] = adapter.native
        scales = (ctypes.c_float * 1)(0.0 if adapter is None else adapter.scale)
        if llama_cpp.llama_set_adapters_lora(context, natives, count, scales):
            raise InferenceError("The adapter could not be applied.")
        self._applied[context] = adapter

    def forget(self, context: Any) -> None:
        """A context is about to be freed."""
        self._applied.pop(context, None)
