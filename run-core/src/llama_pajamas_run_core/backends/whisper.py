"""The abstract speech-to-text backend of runtimes that compute Whisper's network, and leave the rest to run-core."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from llama_pajamas_run_core.backends.stt import STTBackend, placed
from llama_pajamas_run_core.dsp.windows import speech_windows
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.audio import Audio, Segment, TranscribeOptions
from llama_pajamas_run_core.whisper.decode import Whisper
from llama_pajamas_run_core.whisper.model import WhisperModel
from llama_pajamas_run_core.whisper.transcribe import transcribe


class WhisperSTTBackend(STTBackend):
    """A Whisper model.

    A runtime writes :meth:`_open`, and names its load options in :attr:`_options`. The option ``short_context``
    (default False; True encodes only as much as there is audio, not always 30 seconds) is every runtime's; where the
    model's shapes are fixed it changes nothing.
    """

    #: The runtime's own load options.
    _options: ClassVar[tuple[str, ...]] = ()

    _whisper: Whisper

    @abstractmethod
    def _open(self, path: Path, **options: Any) -> WhisperModel:
        """Load the network. Runs on the owner thread. On failure it must leave nothing behind.

        Args:
            path: file or folder of the model.
            options: some of :attr:`_options`.

        Raises:
            BadInput: an option is senseless.
            LoadError: the model is missing, damaged, or none of this runtime's.
        """

    def _load(self, path: Path, **options: Any) -> None:
        known = (*self._options, "short_context")
        if unknown := sorted(set(options) - set(known)):
            raise BadInput(f"Unknown options: {', '.join(unknown)}.", hint=f"There are: {', '.join(known)}.")
        short = bool(options.pop("short_context", False))
        model = self._open(path, **options)
        try:
            self._whisper = Whisper(model, short_context=short)
        except BaseException:
            model.close()
            raise

    def _unload(self) -> None:
        self._whisper.model.close()
        del self._whisper

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages that the loaded model understands."""
        self._ready()
        vocabulary = self._whisper.vocabulary
        return vocabulary.languages if vocabulary.multilingual else ("en",)

    @property
    def translates(self) -> bool:
        """Whether the loaded model translates into English; one that knows English alone trivially does."""
        return True

    @property
    def details(self) -> Mapping[str, Any]:
        """The model's size."""
        if not self.loaded:
            return {}
        sizes = self._whisper.model.sizes
        return {
            "multilingual": self._whisper.vocabulary.multilingual,
            "encoder_layers": sizes.n_audio_layer,
            "decoder_layers": sizes.n_text_layer,
            "windows": self._whisper.model.windows,
        }

    def _language(self, audio: Audio) -> str:
        return self._whisper.detect_language(audio.samples)

    def _transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        yield from transcribe(self._whisper, [audio.samples], options)[0]

    def _segments(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        windows = speech_windows(audio, self.window)
        while together := list(islice(windows, self._whisper.model.windows)):
            made = transcribe(self._whisper, [window.audio.samples for window in together], options)
            for window, segments in zip(together, made, strict=True):
                for segment in segments:
                    if segment.text:
                        yield placed(segment, window.start, audio.duration)
