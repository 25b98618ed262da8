"""Text to speech with the voices of the system."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.backends.tts import OPENAI_VOICES, TTSBackend
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.types.audio import Audio, SpeakOptions, Voice
from llama_pajamas_run_system._engine import VoiceEngine

_ESPEAK: Final = frozenset({"espeak", "espeak-ng"})
_APPLE: Final = frozenset({"avfoundation"})
_SYSTEM: Final = frozenset({"system", "default"})


class SystemTTSBackend(TTSBackend):
    """The voice that is always there: eSpeak NG on Linux and Windows, the voices of macOS on a Mac.

    Ready as soon as it is made: there is no file to load.

    Args:
        model: the engine: "system" (the one that suits the system), "espeak" or "avfoundation".

    Raises:
        LoadError: there is no such engine, or it does not start.
        MissingDependency: the engine's package is not installed.
    """

    runtime = "system"

    def __init__(self, model: str | PathLike[str] | None = "system", **options: Any) -> None:
        self._engine: VoiceEngine | None = None
        super().__init__(model, **options)

    def _load(self, path: Path, **options: Any) -> None:
        if options:
            raise BadInput(f"The system's voices take no options, but were given {', '.join(sorted(options))}.")
        self._engine = _start(path.name.lower())

    def _unload(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    @property
    def rate(self) -> int:
        """Samples per second of the audio it makes."""
        return self._started.rate

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices, the default one first. With eSpeak NG more are found by their ids: see :meth:`find_voice`."""
        return self._started.voices

    @property
    def details(self) -> Mapping[str, Any]:
        """The engine and how many voices it lists."""
        engine = self._engine
        return {} if engine is None else {"engine": engine.title, "rate": engine.rate, "voices": len(engine.voices)}

    def find_voice(self, wanted: str | None) -> Voice:
        """The voice of that id.

        Beside the listed voices every variant of eSpeak NG goes with every language ("fr-fr+f3"), a language alone
        means its first voice ("de"), and OpenAI's names mean a voice that suits them.

        Raises:
            BadInput: there is none; the message lists those there are.
        """
        if wanted is not None and wanted.casefold() not in OPENAI_VOICES:
            found = self._started.find(wanted)
            if found is not None:
                return found
        return super().find_voice(wanted)

    def _check(self, options: SpeakOptions) -> SpeakOptions:
        if options.language is not None and (options.voice is None or options.voice.casefold() in OPENAI_VOICES):
            options = replace(options, voice=self._speaker_of(options.language, options.voice))
        return super()._check(options)

    def _speaker_of(self, language: str, wanted: str | None) -> str:
        """The id of a voice of that language, and of the gender of OpenAI's voice ``wanted``."""
        engine = self._started
        voice = engine.find(language) or engine.find(language.split("-")[0])
        if voice is None:
            codes = sorted({tag for voice in engine.voices for tag in voice.languages[:1]})
            raise BadInput(
                f"No voice speaks the language '{language}'.", hint=f"Languages: {', '.join(codes)}.", param="language"
            )
        gender = None if wanted is None else OPENAI_VOICES[wanted.casefold()]
        if gender is None or gender == voice.gender:
            return voice.id
        alike = [one for one in engine.voices if one.gender == gender and one.languages[:1] == voice.languages[:1]]
        variant = engine.find(f"{voice.id}+{gender[0]}2")
        return alike[0].id if alike else variant.id if variant is not None else voice.id

    def _speak(self, text: str, options: SpeakOptions) -> Iterator[Audio]:
        assert options.voice is not None
        engine = self._started
        for samples in engine.speak(text, options.voice, options.speed):
            yield Audio(samples, engine.rate)

    @property
    def _started(self) -> VoiceEngine:
        self._ready()
        assert self._engine is not None
        return self._engine


def _start(name: str) -> VoiceEngine:
    """The engine of that name."""
    if name in _SYSTEM:
        name = "avfoundation" if sys.platform == "darwin" else "espeak"
    if name in _APPLE:
        from llama_pajamas_run_system._avfoundation import AVFoundationEngine

        return AVFoundationEngine()
    if name in _ESPEAK:
        from llama_pajamas_run_system._espeak_voices import EspeakEngine

        return EspeakEngine()
    raise LoadError(f"There is no system voice engine '{name}'.", hint="There are: system, espeak, avfoundation.")
