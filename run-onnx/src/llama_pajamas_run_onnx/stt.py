"""Speech to text with Whisper models in ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from llama_pajamas_run_core.backends.whisper import WhisperSTTBackend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.whisper.model import WhisperModel
from llama_pajamas_run_onnx._session import Session
from llama_pajamas_run_onnx.whisper_files import find_whisper

#: Windows of long audio that a GPU computes together; a CPU gains nothing by it, and the first words come later.
_WINDOWS_ON_GPU: Final = 8


class ONNXSTTBackend(WhisperSTTBackend):
    """A Whisper model in ONNX: as ``llama-pajamas export onnx`` writes it, or as Hugging Face's optimum does.

    Args:
        model: the folder with the graphs and config.json.
        options: ``device``, ``providers`` and ``threads`` as in :class:`~llama_pajamas_run_onnx._session.Session`;
            ``windows`` (how many windows of long audio are computed together; default: 8 on a GPU, 1 on a CPU);
            ``variant`` (which precision of several, "fp16", "quantized", ...; default: the plain graphs);
            ``short_context`` (default False; True encodes only as much as there is audio, not always 30 seconds:
            several times faster for short audio, but some models then repeat themselves).

    Raises:
        BadInput: there is no such folder, or an option is unknown or senseless.
        LoadError: a file is missing or damaged.
        OutOfMemory: the model does not fit.
    """

    runtime: ClassVar[str] = "onnx"
    _options: ClassVar[tuple[str, ...]] = ("device", "providers", "threads", "windows", "variant")

    _encoder: Session

    def _open(self, path: Path, **options: Any) -> WhisperModel:
        windows, variant = options.pop("windows", None), options.pop("variant", None)
        if windows is not None and windows < 1:
            raise BadInput(f"windows must be at least 1, not {windows}.", param="windows")
        files = find_whisper(path, variant)
        encoder = Session(files.encoder, **options)
        if windows is None:
            windows = 1 if encoder.device == "cpu" else _WINDOWS_ON_GPU
        model = files.open(encoder, windows=windows, **options)
        self._encoder = encoder
        return model

    def _unload(self) -> None:
        del self._encoder
        super()._unload()

    @property
    def details(self) -> Mapping[str, Any]:
        """The device it runs on and the model's size."""
        if not self.loaded:
            return {}
        encoder = self._encoder
        return {
            "device": encoder.device,
            "provider": encoder.provider,
            "file": encoder.path.name,
            **super().details,
        }
