"""Speech to text with Whisper models in Core ML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llama_pajamas_run_core.backends.whisper import WhisperSTTBackend
from llama_pajamas_run_core.whisper.model import WhisperModel
from llama_pajamas_run_coreml.whisper import CoreMLWhisper


class CoreMLSTTBackend(WhisperSTTBackend):
    """A Whisper model in Core ML, as ``llama-pajamas export coreml`` writes it.

    The decoder's memory is a state inside Core ML (iOS 18, macOS 15), or handed in and out (older systems).

    Args:
        model: the folder with ``encoder.mlpackage`` and ``decoder.mlpackage``, each compiled or not.
        options: ``compute_units`` and ``quick_start`` as in :class:`~llama_pajamas_run_coreml._session.Session`.
            ``short_context`` changes nothing: the encoder always computes 30 seconds.

    Raises:
        BadInput: there is no such folder, or an option is unknown or senseless.
        LoadError: a package is missing or damaged, or Core ML cannot load it.
        OutOfMemory: the model does not fit.
        Unsupported: this is no Mac.
    """

    runtime: ClassVar[str] = "coreml"
    _options: ClassVar[tuple[str, ...]] = ("compute_units", "quick_start")

    _network: CoreMLWhisper

    def _open(self, path: Path, **options: Any) -> WhisperModel:
        self._network = CoreMLWhisper(path, **options)
        return self._network

    def _unload(self) -> None:
        super()._unload()
        del self._network

    @property
    def details(self) -> Mapping[str, Any]:
        """The compute units it runs on and the model's size."""
        return {**self._network.details, **super().details} if self.loaded else {}
