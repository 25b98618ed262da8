"""Kokoro voices, through the library kokoro-onnx."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.stretch import stretch
from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, MissingDependency
from llama_pajamas_run_core.types.audio import Voice
from llama_pajamas_run_onnx._session import Session, mapped

try:
    from kokoro_onnx import Kokoro
    from kokoro_onnx.config import SAMPLE_RATE
except ImportError as error:
    raise MissingDependency(
        "Kokoro voices", package="kokoro-onnx", install="uv pip install 'llama-pajamas-run-onnx[tts]'"
    ) from error

# The library's logger writes to stderr by itself; where its lines go is the application's choice.
logging.getLogger("kokoro_onnx").handlers.clear()

#: The paces that the model keeps by itself.
_SLOWEST, _FASTEST = 0.5, 2.0
#: The first letter of a voice's name tells its language, here as BCP 47 and as eSpeak NG has it.
_LANGUAGES: Final = {
    "a": ("en-US", "en-us"),
    "b": ("en-GB", "en-gb"),
    "e": ("es", "es"),
    "f": ("fr-FR", "fr-fr"),
    "h": ("hi", "hi"),
    "i": ("it", "it"),
    "j": ("ja", "ja"),
    "p": ("pt-BR", "pt-br"),
    "z": ("zh", "cmn"),
}
_GENDERS: Final[Mapping[str, Literal["female", "male"]]] = {"f": "female", "m": "male"}
_DEFAULT: Final = "af_heart"


class KokoroModel:
    """Kokoro's graph with its file of voices ("af_heart", "bm_george").

    Args:
        graph: the .onnx file.
        voices: the file of voices, a zip of arrays ("voices-v1.0.bin").
        options: how a :class:`Session` runs.

    Raises:
        LoadError: a file is damaged.
    """

    family = "Kokoro"

    def __init__(self, graph: Path, voices: Path, options: Mapping[str, Any]) -> None:
        self._session = Session(graph, **options)
        _check_voices(voices)
        missing = {"style", "speed"} - {one.name for one in self._session.inputs}
        if missing:
            raise LoadError(f"{graph} is no Kokoro model: it lacks the inputs {', '.join(sorted(missing))}.")
        with mapped(LoadError, f"{graph} could not be loaded"):
            self._kokoro = Kokoro.from_session(self._session.raw, str(voices))
        names = sorted(self._kokoro.voices.keys(), key=lambda name: (name != _DEFAULT, name))
        self._voices = tuple(_voice(name) for name in names)

    @property
    def rate(self) -> int:
        return int(SAMPLE_RATE)

    @property
    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    @property
    def device(self) -> str:
        return self._session.device

    def speak(self, text: str, voice: str, speed: float, language: str | None) -> Iterator[npt.NDArray[np.float32]]:
        own = _LANGUAGES.get(voice[:1], _LANGUAGES["a"])[1]
        pace = min(max(speed, _SLOWEST), _FASTEST)
        with mapped(InferenceError, f"The voice {voice} failed"):
            phonemes = self._phonemes(text, own if language is None else _espeak_code(language))
            if not phonemes:
                return
            samples, rate = self._kokoro.create(phonemes, voice, pace, is_phonemes=True)
        yield stretch(np.asarray(samples, np.float32).reshape(-1), rate, speed / pace)

    def _phonemes(self, text: str, language: str) -> str:
        try:
            return str(self._kokoro.tokenizer.phonemize(text, language))
        except RuntimeError as error:
            if "language" not in str(error):
                raise
            raise BadInput(f"No voice speaks the language '{language}'.", param="language") from error


def _espeak_code(language: str) -> str:
    """What eSpeak NG calls a language."""
    for tag, code in _LANGUAGES.values():
        if language.lower() in (tag.lower(), code, tag.lower().split("-")[0]):
            return code
    return language.lower()


def _check_voices(path: Path) -> None:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            shapes = {name: arrays[name].shape for name in arrays.files}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise LoadError(f"{path} holds no voices: {error}.", hint="Fetch it again.") from error
    except Exception as error:  # zipfile and zlib have their own
        raise LoadError(f"{path} is damaged: {error}.", hint="Fetch it again.") from error
    if not shapes or any(len(shape) != 3 or 0 in shape for shape in shapes.values()):
        raise LoadError(f"{path} holds no voices: its arrays have the shapes {sorted(set(shapes.values()))}.")


def _voice(name: str) -> Voice:
    kind, _, person = name.partition("_")
    languages = (_LANGUAGES[kind[0]][0],) if kind[:1] in _LANGUAGES else ()
    return Voice(name, person.capitalize() or name, languages, _GENDERS.get(kind[1:2]))
