"""The abstract speech-to-text backend."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, get_args

import numpy as np

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.dsp.resample import resample
from llama_pajamas_run_core.dsp.windows import speech_windows
from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.types.audio import Audio, Segment, TranscribeOptions, TranscribeTask, Transcript, Word
from llama_pajamas_run_core.types.tasks import Task


class STTBackend(Backend):
    """A speech recognizer.

    A runtime writes :meth:`_transcribe` for one window of audio at its own rate; this class resamples, leaves
    silence out, cuts long audio into windows and keeps the times right.
    """

    task: ClassVar[Task] = Task.STT
    #: The sample rate that the model wants.
    rate: ClassVar[int] = 16_000
    #: The longest window that :meth:`_transcribe` takes, in seconds.
    window: ClassVar[float] = 30.0

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages that the loaded model understands."""
        return ("en",)

    @property
    def translates(self) -> bool:
        """Whether the loaded model translates into English; one that knows English alone trivially does."""
        return self.languages == ("en",)

    @abstractmethod
    def _transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        """Yield the segments of one window, times from the window's start. Runs on the owner thread.

        Args:
            audio: at :attr:`rate`, at most :attr:`window` seconds.
            options: ``options.language`` is one of :attr:`languages`, or None to detect it.
        """

    def _language(self, audio: Audio) -> str:
        """The language spoken in a window. Runs on the owner thread; only called when several are possible."""
        return self.languages[0]

    def stream(self, audio: Audio, options: TranscribeOptions | None = None, **fields: Any) -> Iterator[Segment]:
        """Transcribe, segment by segment, as they are recognized.

        Args:
            audio: any length, any rate.
            options: how.
            fields: the fields of :class:`TranscribeOptions`, in place of what ``options`` says.

        Returns:
            segments in order of time; none for silence.

        Raises:
            BadInput: the language is unknown to the model, the task to everyone, the temperature out of range, or no
                model is loaded.
            Unsupported: a translation is asked of a model that makes none.
        """
        options = self._check(replace(options or TranscribeOptions(), **fields))
        owner = self._ready()
        return owner.stream(lambda: self._segments(self._prepare(audio), options))

    def transcribe(self, audio: Audio, options: TranscribeOptions | None = None, **fields: Any) -> Transcript:
        """Transcribe all of it. Arguments and errors as :meth:`stream`."""
        options = self._check(replace(options or TranscribeOptions(), **fields))
        if options.language is None:
            options = replace(options, language=self.detect_language(audio))
        assert options.language is not None
        segments = tuple(self.stream(audio, options))
        return Transcript(segments, options.language, audio.duration, options.task)

    def detect_language(self, audio: Audio) -> str:
        """The ISO 639-1 code of the language spoken, told from the first window with speech in it."""
        owner = self._ready()
        if len(self.languages) == 1:
            return self.languages[0]
        prepared = self._prepare(audio)
        first = next(iter(speech_windows(prepared, self.window)), None)
        if first is None:
            return self.languages[0]
        return owner.run(lambda: self._language(first.audio))

    def _prepare(self, audio: Audio) -> Audio:
        samples = audio.samples
        if not np.isfinite(samples).all():  # one such sample would silence all that follows
            samples = np.nan_to_num(samples, posinf=1.0, neginf=-1.0)
        return Audio(resample(samples, audio.rate, self.rate), self.rate)

    def _segments(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        for window in speech_windows(audio, self.window):
            for segment in self._transcribe(window.audio, options):
                if segment.text:
                    yield placed(segment, window.start, audio.duration)

    def _check(self, options: TranscribeOptions) -> TranscribeOptions:
        if options.task not in get_args(TranscribeTask):
            raise BadInput(f"task must be transcribe or translate, not {options.task!r}.", param="task")
        if options.temperature is not None and not 0 <= options.temperature <= 1:
            raise BadInput(f"temperature must be from 0 to 1, not {options.temperature}.", param="temperature")
        self._ready()
        if options.language is not None:
            language = options.language.lower().split("-")[0]
            if language not in self.languages:
                raise BadInput(
                    f"This model does not know the language '{options.language}'.",
                    hint=f"It knows: {', '.join(self.languages)}.",
                    param="language",
                )
            options = replace(options, language=language)
        if options.task == "translate" and not self.translates:
            raise Unsupported("This model does not translate.", param="model")
        return options


def placed(segment: Segment, offset: float, duration: float) -> Segment:
    """A window's segment, in the time of the whole audio and inside it."""

    def clamp(time: float) -> float:
        return min(max(time + offset, 0.0), duration)

    words: list[Word] = []
    for word in segment.words:
        start = max(clamp(word.start), words[-1].start if words else 0.0)
        words.append(replace(word, start=start, end=max(clamp(word.end), start)))
    start = clamp(segment.start)
    return replace(segment, start=start, end=max(clamp(segment.end), start), words=tuple(words))
