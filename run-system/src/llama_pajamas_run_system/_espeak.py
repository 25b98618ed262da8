"""eSpeak NG in this process: text to 16-bit samples through ctypes, no subprocess.

The library and its voices come in the wheel ``espeakng-loader``. libespeak-ng keeps its state (voice, speed, callback)
in globals, so one lock serialises every call of this process; synthesis runs at about a thousand times real time, so
holding the lock for a sentence costs milliseconds.

Interface: ``speak_lib.h`` of eSpeak NG 1.52 (https://github.com/espeak-ng/espeak-ng). eSpeak NG is GPL-3.0-or-later.
"""

import ctypes
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, MissingDependency

_AUDIO_OUTPUT_SYNCHRONOUS: Final = 2
_INITIALIZE_DONT_EXIT: Final = 0x8000  # otherwise a missing data folder ends the whole process
_CHARS_UTF8: Final = 1
_PARAMETER_RATE, _PARAMETER_VOLUME, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 2, 3, 4
_EVENT_LIST_TERMINATED, _EVENT_WORD, _EVENT_SENTENCE = 0, 1, 2

#: What eSpeak NG itself clamps to; asking for more is told to the caller instead of being ignored.
WORDS_PER_MINUTE: Final = (80, 450)

Samples = npt.NDArray[np.int16]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """One voice of eSpeak NG.

    Attributes:
        name: what :meth:`Espeak.synthesize` takes: a language code such as ``en-us``.
        label: the voice's own name, "English (America)".
        languages: BCP 47 codes, the first one being the voice's main language.
        gender: ``male``, ``female`` or ``neutral``.
        file: the voice's file among the library's data, ``gmw/en-US``.
    """

    name: str
    label: str
    languages: tuple[str, ...]
    gender: str
    file: str


@dataclass(frozen=True, slots=True)
class WordEvent:
    """When a word starts to sound.

    Attributes:
        position: index of the word's first character in the text.
        length: number of characters.
        start: seconds from the start of the audio.
    """

    position: int
    length: int
    start: float


class _Library:
    """The loaded and initialised shared library, and the callback that is running."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise MissingDependency(
                "The eSpeak NG voice", package="espeakng-loader", install="uv pip install llama-pajamas-run-system"
            ) from error
        path, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        try:
            self.api = ctypes.CDLL(str(path))
        except OSError as error:
            raise LoadError(f"The eSpeak NG library {path} could not be loaded: {error}.") from error
        self.api.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self.api.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        # The library appends "espeak-ng-data" itself when it is given the parent folder; it takes either.
        self.rate = int(
            self.api.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(str(data)), _INITIALIZE_DONT_EXIT)
        )
        if self.rate <= 0:
            raise LoadError(f"eSpeak NG did not start with the voice data in {data}.")
        self.sink: Callable[[Samples], bool] | None = None
        self.words: list[tuple[int, int, int]] | None = None
        self.failure: BaseException | None = None
        self.voice = ""
        self._callback = _Callback(self._on_samples)  # kept: ctypes does not hold a reference to it
        self.api.espeak_SetSynthCallback(self._callback)

    def _on_samples(self, samples: int | None, count: int, events: Any) -> int:
        """Called by the library, within espeak_Synth: 1 stops the synthesis."""
        try:
            if self.words is not None:
                index = 0
                while events[index].type != _EVENT_LIST_TERMINATED:
                    event = events[index]
                    if event.type == _EVENT_WORD:
                        self.words.append((event.text_position, event.length, event.sample))
                    index += 1
            if samples and count and self.sink is not None:
                piece = np.frombuffer(ctypes.string_at(samples, 2 * count), np.int16)
                return 0 if self.sink(piece) else 1
        except BaseException as error:  # an exception cannot cross the C frames: it is raised again by speak()
            self.failure = error
            return 1
        return 0

    def _file(self, voice: str) -> str:
        """The library's file for a voice: it finds few voices by their code, and variants only behind a file."""
        code, plus, variant = voice.partition("+")
        known = self.voices()
        code = code.lower()
        found = [v for v in known if code in (v.name, v.file.lower(), v.label.lower())]
        found = found or [v for v in known if code in v.languages]
        return (found[0].file if found else code) + plus + variant

    @functools.cache  # noqa: B019 (one instance lives as long as the process)
    def voices(self) -> tuple[EspeakVoice, ...]:
        found: dict[str, EspeakVoice] = {}
        listed = self.api.espeak_ListVoices(None)
        index = 0
        while listed[index]:
            entry = listed[index].contents
            index += 1
            languages = _languages(entry.languages)
            file = (entry.identifier or b"").decode()
            if not languages or file.startswith("mb/"):  # MBROLA voices need another program's data
                continue
            gender = {1: "male", 2: "female"}.get(entry.gender, "neutral")
            found.setdefault(languages[0], EspeakVoice(languages[0], entry.name.decode(), languages, gender, file))
        return tuple(found[name] for name in sorted(found))

    def speak(
        self,
        text: str,
        voice: str,
        parameters: tuple[tuple[int, int], ...],
        sink: Callable[[Samples], bool],
        words: list[tuple[int, int, int]] | None,
    ) -> None:
        self.sink, self.words, self.failure = sink, words, None
        try:
            if voice != self.voice:
                self.voice = ""
                if self.api.espeak_SetVoiceByName(self._file(voice).encode()):
                    raise BadInput(
                        f"eSpeak NG has no voice '{voice}'.",
                        hint="Espeak.voices() lists the voices; a variant follows a plus sign, as in en-us+f3.",
                        param="voice",
                    )
                self.voice = voice
            for parameter, value in parameters:
                self.api.espeak_SetParameter(parameter, value, 0)
            data = text.encode()
            status = self.api.espeak_Synth(data, len(data) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
            if self.failure is not None:
                raise self.failure
            if status:
                raise InferenceError(f"eSpeak NG failed with status {status}.")
        finally:
            self.sink = self.words = None


_lock = threading.Lock()


@functools.cache
def _library() -> _Library:
    return _Library()


class Espeak:
    """Speech synthesis by eSpeak NG. Every instance of a process shares the one library; all methods are thread-safe.

    Raises:
        MissingDependency: the package espeakng-loader is not installed.
        LoadError: the library or its data could not be loaded.
    """

    def __init__(self) -> None:
        with _lock:
            self._library = _library()

    @property
    def rate(self) -> int:
        """Samples per second of what is synthesised (22050)."""
        return self._library.rate

    def synthesize(
        self,
        text: str,
        voice: str = "en-us",
        *,
        words_per_minute: int = 175,
        pitch: int = 50,
        volume: int = 100,
        intonation: int = 50,
    ) -> tuple[Samples, int]:
        """Speaks a text.

        Args:
            text: the text; punctuation gives pauses and intonation.
            voice: a language code, with ``+variant`` for another speaker: ``en-us``, ``en-gb+f3``.
            words_per_minute: 80 to 450.
            pitch: 0 (low) to 99 (high).
            volume: 0 to 200; 100 is the library's own level.
            intonation: 0 (monotone) to 99.

        Returns:
            int16 samples, mono, and their rate in samples per second.

        Raises:
            BadInput: an unknown voice, or a value out of range.
            InferenceError: the library failed.
        """
        samples, _ = self._speak(text, voice, words_per_minute, pitch, volume, intonation, with_words=False)
        return samples, self.rate

    def synthesize_with_words(
        self,
        text: str,
        voice: str = "en-us",
        *,
        words_per_minute: int = 175,
        pitch: int = 50,
        volume: int = 100,
        intonation: int = 50,
    ) -> tuple[Samples, int, tuple[WordEvent, ...]]:
        """:meth:`synthesize`, and when each word starts. A hyphenated word can give one event per part.

        Returns:
            int16 samples, their rate, and the words in the order of the text.

        Raises:
            BadInput: an unknown voice, or a value out of range.
            InferenceError: the library failed.
        """
        samples, events = self._speak(text, voice, words_per_minute, pitch, volume, intonation, with_words=True)
        # The library counts characters from 1, and repeats a word's event when it splits a clause.
        words = {position: WordEvent(position - 1, length, at / self.rate) for position, length, at in reversed(events)}
        return samples, self.rate, tuple(words[position] for position in sorted(words))

    def stream(
        self,
        text: str,
        voice: str = "en-us",
        *,
        words_per_minute: int = 175,
        pitch: int = 50,
        volume: int = 100,
        intonation: int = 50,
    ) -> Iterator[Samples]:
        """Speaks a text piece by piece as it is synthesised.

        The synthesis runs on a thread of its own and does not wait for the consumer, so a slow consumer keeps nobody
        else from speaking. Closing the iterator stops the synthesis.

        Yields:
            int16 samples, mono, at :attr:`rate`.

        Raises:
            BadInput: an unknown voice, or a value out of range; raised by the call, before the first piece.
            InferenceError: the library failed.
        """
        arguments = self._arguments(text, voice, words_per_minute, pitch, volume, intonation)
        return self._stream(*arguments)

    def _stream(self, text: str, voice: str, parameters: tuple[tuple[int, int], ...]) -> Iterator[Samples]:
        pieces: queue.SimpleQueue[Samples | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()

        def sink(piece: Samples) -> bool:
            pieces.put(piece)
            return not stop.is_set()

        def work() -> None:
            try:
                with _lock:
                    if not stop.is_set():
                        self._library.speak(text, voice, parameters, sink, None)
            except BaseException as error:
                pieces.put(error)
            else:
                pieces.put(None)

        thread = threading.Thread(target=work, name="espeak", daemon=True)
        thread.start()
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            stop.set()
            thread.join()

    def voices(self) -> list[EspeakVoice]:
        """Every voice of the library, sorted by name (variants, which go behind a plus sign, are not listed)."""
        with _lock:
            return list(self._library.voices())

    def _speak(
        self,
        text: str,
        voice: str,
        words_per_minute: int,
        pitch: int,
        volume: int,
        intonation: int,
        *,
        with_words: bool,
    ) -> tuple[Samples, list[tuple[int, int, int]]]:
        arguments = self._arguments(text, voice, words_per_minute, pitch, volume, intonation)
        pieces: list[Samples] = []
        words: list[tuple[int, int, int]] = []

        def sink(piece: Samples) -> bool:
            pieces.append(piece)
            return True

        with _lock:
            self._library.speak(*arguments, sink, words if with_words else None)
        return (np.concatenate(pieces) if pieces else np.zeros(0, np.int16)), words

    @staticmethod
    def _arguments(
        text: str, voice: str, words_per_minute: int, pitch: int, volume: int, intonation: int
    ) -> tuple[str, str, tuple[tuple[int, int], ...]]:
        for name, value, (low, high) in (
            ("words_per_minute", words_per_minute, WORDS_PER_MINUTE),
            ("pitch", pitch, (0, 99)),
            ("volume", volume, (0, 200)),
            ("intonation", intonation, (0, 99)),
        ):
            if not low <= value <= high:
                raise BadInput(f"{name} is {value}, but eSpeak NG takes {low} to {high}.", param=name)
        if not voice or "\0" in voice:
            raise BadInput(f"'{voice}' is no voice name.", param="voice")
        return (
            text.replace("\0", " "),
            voice,
            (
                (_PARAMETER_RATE, int(words_per_minute)),
                (_PARAMETER_VOLUME, int(volume)),
                (_PARAMETER_PITCH, int(pitch)),
                (_PARAMETER_RANGE, int(intonation)),
            ),
        )


def _languages(address: int | None) -> tuple[str, ...]:
    """Reads eSpeak's list of languages: for each a priority byte and a C string; a zero byte ends the list."""
    languages: list[str] = []
    while address and ctypes.string_at(address, 1) != b"\0":
        language = ctypes.string_at(address + 1)
        languages.append(language.decode())
        address += len(language) + 2
    return tuple(languages)
