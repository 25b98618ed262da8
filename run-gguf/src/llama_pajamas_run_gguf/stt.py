"""Speech to text with Whisper models in whisper.cpp's format."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.audio import Audio, Segment, TranscribeOptions
from llama_pajamas_run_core.whisper.transcribe import transcribe
from llama_pajamas_run_gguf._whisper import Whisper

_OPTIONS: Final = ("threads", "gpu", "beam_size", "short_context")


class GGUFSTTBackend(STTBackend):
    """A Whisper model in whisper.cpp's ggml format: OpenAI's, distilled or fine-tuned ones, also quantized.

    Args:
        model: the .bin file.
        options: ``threads`` (default: the physical cores), ``gpu`` (default True: use one where whisper.cpp was built
            for it), ``beam_size`` (default 1: greedy), ``short_context`` (default False; True encodes only as much as
            there is audio, not always 30 seconds: several times faster for short audio, but some models then repeat
            themselves).

    Raises:
        BadInput: there is no such file, it is none of whisper.cpp's, or an option is unknown.
        LoadError: the file is damaged.
    """

    runtime = "gguf"

    _whisper: Whisper

    def _load(self, path: Path, **options: Any) -> None:
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise BadInput(f"Unknown options: {', '.join(unknown)}.", hint=f"There are: {', '.join(_OPTIONS)}.")
        for name in ("threads", "beam_size"):
            if options.get(name) is not None and options[name] < 1:
                raise BadInput(f"{name} must be at least 1, not {options[name]}.", param=name)
        self._whisper = Whisper(path, **options)

    def _unload(self) -> None:
        self._whisper.close()

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages that the loaded model understands."""
        self._ready()
        return self._whisper.languages

    @property
    def translates(self) -> bool:
        """Whether the loaded model translates into English; one that knows English alone trivially does."""
        return True

    @property
    def details(self) -> Mapping[str, Any]:
        """The device it runs on and the model's size."""
        if not self.loaded:
            return {}
        whisper, header = self._whisper, self._whisper.header
        return {
            "device": whisper.device,
            "threads": whisper.threads,
            "precision": whisper.precision,
            "multilingual": whisper.multilingual,
            "encoder_layers": header.n_audio_layer,
            "decoder_layers": header.n_text_layer,
        }

    def _language(self, audio: Audio) -> str:
        return self._whisper.detect_language(audio.samples)

    def _transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        yield from transcribe(self._whisper, [audio.samples], options)[0]
