"""Speech to text with Whisper models in MLX's format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import mlx.core as mx

from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.backends.whisper import WhisperSTTBackend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_mlx._session import DTYPES, SharedThread
from llama_pajamas_run_mlx.whisper.runner import MLXWhisper

#: Windows of long audio that a GPU computes together; a CPU gains nothing by it, and the first words come later.
_WINDOWS_ON_GPU: Final = 4


class MLXSTTBackend(WhisperSTTBackend):
    """A Whisper model in mlx-whisper's format: OpenAI's, distilled or fine-tuned ones, also quantized.

    Args:
        model: the folder, with config.json and weights.safetensors or weights.npz.
        options: ``dtype`` ("float16", "float32" or "bfloat16"; default: float16 on a GPU, float32 on a CPU),
            ``windows`` (how many windows of long audio are computed together; default: 4 on a GPU, 1 on a CPU),
            ``short_context`` (default False; True encodes only as much as there is audio, not always 30 seconds:
            several times faster for short audio, but some models then repeat themselves).

    Raises:
        BadInput: an option is unknown or senseless.
        LoadError: the folder is missing, damaged, or no MLX Whisper model.
    """

    runtime: ClassVar[str] = "mlx"
    _options: ClassVar[tuple[str, ...]] = ("dtype", "windows")

    _model: MLXWhisper

    def _open_thread(self) -> OwnerThread:
        return SharedThread()

    def _open(self, path: Path, **options: Any) -> MLXWhisper:
        self._device = "gpu" if mx.default_device() == mx.gpu else "cpu"
        self._dtype = options.get("dtype") or ("float16" if self._device == "gpu" else "float32")
        if self._dtype not in DTYPES:
            raise BadInput(f"dtype is one of {', '.join(DTYPES)}, not {self._dtype!r}.", param="dtype")
        windows = options.get("windows")
        windows = (_WINDOWS_ON_GPU if self._device == "gpu" else 1) if windows is None else windows
        if windows < 1:
            raise BadInput(f"windows must be at least 1, not {windows}.", param="windows")
        self._model = MLXWhisper(path, dtype=self._dtype, windows=windows)
        return self._model

    def _unload(self) -> None:
        del self._model
        super()._unload()

    @property
    def details(self) -> Mapping[str, Any]:
        """The device it runs on and the model's size."""
        if not self.loaded:
            return {}
        bits = self._model.quantization.get("bits")
        return {"device": self._device, "dtype": self._dtype, "bits": bits, **super().details}
