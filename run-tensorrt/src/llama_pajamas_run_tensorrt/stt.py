"""Speech to text with Whisper models as TensorRT engines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from llama_pajamas_run_core.backends.whisper import WhisperSTTBackend
from llama_pajamas_run_tensorrt.whisper import TensorRTWhisper, open_whisper
from llama_pajamas_run_tensorrt.whisper_engines import find_engines

_SESSION: Final = ("trust", "memory_limit", "graphs")


class TensorRTSTTBackend(WhisperSTTBackend):
    """A Whisper model as TensorRT engines: any checkpoint that ``llama-pajamas export onnx`` writes as ONNX.

    Windows of long audio are computed together, and what the decoder remembers stays on the GPU.

    Args:
        model: a folder with encoder.engine, decoder.engine and config.json, as ``llama-pajamas export tensorrt`` makes
            it; or the folder of the ONNX graphs, of which engines are built for this GPU when it is first loaded: that
            takes a minute or more, and they are kept.
        options: for ONNX graphs ``precision`` ("fp16", "fp32"), ``windows``, how many windows of 30 seconds are
            computed together (8), and ``level``, how long TensorRT searches for the fastest way (0 to 5, 3);
            ``device``, ``trust``, ``memory_limit`` (for each of the two engines) and ``graphs`` as in
            :class:`~llama_pajamas_run_tensorrt._session.Session`; ``short_context`` has an effect where the engines
            were built for fewer frames too.

    Raises:
        BadInput: there is no such folder, an option is senseless, or nobody vouches for the engines.
        LoadError: an engine is damaged or was built for another GPU or version; the message says what to build anew.
        OutOfMemory: it does not fit.
    """

    runtime: ClassVar[str] = "tensorrt"
    _options: ClassVar[tuple[str, ...]] = ("device", *_SESSION, "precision", "windows", "level")

    _network: TensorRTWhisper

    def _open(self, path: Path, **options: Any) -> TensorRTWhisper:
        given = {name: options[name] for name in ("device", *_SESSION) if name in options}
        encoder, decoder, sizes = find_engines(
            path,
            device=options.get("device"),
            precision=options.get("precision"),
            windows=options.get("windows"),
            level=options.get("level"),
        )
        self._network = open_whisper(encoder, decoder, sizes, **given)
        return self._network

    def _unload(self) -> None:
        super()._unload()
        del self._network

    @property
    def host_memory(self) -> int | None:
        """Bytes of pinned host memory in use; the engines themselves are on the GPU."""
        return self._network.host_memory if self.loaded else None

    @property
    def details(self) -> Mapping[str, Any]:
        """The GPU, the versions and the model's size."""
        if not self.loaded:
            return {}
        return {**self._network.details, **super().details}
