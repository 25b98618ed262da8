"""The abstract text-to-speech backend."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.text.sentences import split_sentences
from llama_pajamas_run_core.text.unicode import well_formed
from llama_pajamas_run_core.types.audio import Audio, SpeakOptions, Voice
from llama_pajamas_run_core.types.tasks import Task

#: OpenAI's voice names with the gender they are heard as, so that every client's default voice speaks.
OPENAI_VOICES: Final = {
    "alloy": "female",
    "ash": "male",
    "ballad": "male",
    "cedar": "male",
    "coral": "female",
    "echo": "male",
    "fable": "male",
    "marin": "female",
    "nova": "female",
    "onyx": "male",
    "sage": "female",
    "shimmer": "female",
    "verse": "male",
}


class TTSBackend(Backend):
    """A speaker.

    A runtime writes :meth:`_speak` for a sentence or two and :attr:`voices`; this class finds the voice, checks the
    speed and cuts long text, so that the first sound comes before the whole text is spoken.
    """

    task: ClassVar[Task] = Task.TTS

    @property
    @abstractmethod
    def rate(self) -> int:
        """Samples per second of the audio it makes."""

    @property
    @abstractmethod
    def voices(self) -> tuple[Voice, ...]:
        """The voices of the loaded model, the default one first."""

    @abstractmethod
    def _speak(self, text: str, options: SpeakOptions) -> Iterator[Audio]:
        """Yield the sound of one piece of text, as it is made. Runs on the owner thread.

        Args:
            text: a sentence or a few; not blank.
            options: ``options.voice`` is the id of one of :attr:`voices`.
        """

    def stream(self, text: str, options: SpeakOptions | None = None, **fields: Any) -> Iterator[Audio]:
        """Speak, piece by piece.

        Args:
            text: any length; text without a letter or digit makes no sound.
            options: how.
            fields: the fields of :class:`SpeakOptions`, in place of what ``options`` says.

        Returns:
            pieces of sound, each at :attr:`rate`.

        Raises:
            BadInput: the voice is unknown (the message lists the voices), the speed is out of range, or no model is
                loaded.
        """
        owner = self._ready()
        checked = self._check(replace(options or SpeakOptions(), **fields))
        return owner.stream(lambda: self._pieces(well_formed(text), checked))

    def speak(self, text: str, options: SpeakOptions | None = None, **fields: Any) -> Audio:
        """Speak all of it. Arguments and errors as :meth:`stream`."""
        pieces = [piece.samples for piece in self.stream(text, options, **fields)]
        return Audio(np.concatenate(pieces) if pieces else np.zeros(0, np.float32), self.rate)

    def _pieces(self, text: str, options: SpeakOptions) -> Iterator[Audio]:
        for sentence in split_sentences(text):
            yield from self._speak(sentence, options)

    def _check(self, options: SpeakOptions) -> SpeakOptions:
        if not 0.25 <= options.speed <= 4.0:
            raise BadInput(f"speed must be from 0.25 to 4, not {options.speed}.", param="speed")
        return replace(options, voice=self.find_voice(options.voice).id)

    def find_voice(self, wanted: str | None) -> Voice:
        """The voice of that id or, for one of OpenAI's names, one that suits it; None is the default voice.

        Raises:
            BadInput: there is none; the message lists those there are.
        """
        voices = self.voices
        if wanted is None:
            return voices[0]
        for voice in voices:
            if wanted.casefold() in (voice.id.casefold(), voice.name.casefold()):
                return voice
        name = wanted.casefold()
        if name not in OPENAI_VOICES:
            shown = ", ".join(voice.id for voice in voices[:40]) + (", ..." if len(voices) > 40 else "")
            raise BadInput(f"There is no voice '{wanted}'.", hint=f"Voices: {shown}.", param="voice")
        gender, language = OPENAI_VOICES[name], voices[0].languages[:1]
        alike = [voice for voice in voices if voice.gender == gender and voice.languages[:1] == language]
        # Different names are different voices, as far as there are enough.
        place = [other for other, heard in OPENAI_VOICES.items() if heard == gender].index(name)
        return alike[place % len(alike)] if alike else voices[0]
