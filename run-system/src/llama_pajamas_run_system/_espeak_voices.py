"""eSpeak NG's voices, with their variants, as a voice engine."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.stretch import stretch
from llama_pajamas_run_core.types.audio import Voice
from llama_pajamas_run_system._espeak import WORDS_PER_MINUTE, Espeak, EspeakVoice

#: eSpeak NG's own pace, in words per minute.
_NORMAL: Final = 175
_GENDERS: Final[Mapping[str, Literal["female", "male"]]] = {"female": "female", "male": "male"}
_DEFAULT: Final = "en-us"
#: The variants that are listed for the default voice; every other one in eSpeak NG's data is found by its id.
_LISTED: Final = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")


class EspeakEngine:
    """Voice ids are language codes ("en-us", "de"), with "+variant" for another speaker ("en-us+f3")."""

    title = "eSpeak NG"

    def __init__(self) -> None:
        self._espeak = Espeak()
        self._by_id = {voice.name.lower(): voice for voice in self._espeak.voices()}
        others = [voice for name, voice in self._by_id.items() if name != _DEFAULT]
        default = self._by_id[_DEFAULT]
        variants = [self._variant(default, name) for name in _LISTED if name in _variants()]
        self._listed = (_plain(default), *variants, *(_plain(voice) for voice in others))

    @property
    def rate(self) -> int:
        return self._espeak.rate

    @property
    def voices(self) -> tuple[Voice, ...]:
        return self._listed

    def find(self, wanted: str) -> Voice | None:
        code, plus, variant = wanted.lower().partition("+")
        voice = self._by_id.get(code)
        if voice is None:  # a language that one of the voices speaks: "en" or "pt-pt"
            voice = next((one for one in self._by_id.values() if code in (tag.lower() for tag in one.languages)), None)
            if code == _DEFAULT.split("-")[0]:
                voice = self._by_id[_DEFAULT]
        if voice is None:
            return None
        if not plus:
            return _plain(voice)
        name = next((name for name in _variants() if name.lower() == variant), None)
        return None if name is None else self._variant(voice, name)

    def speak(self, text: str, voice: str, speed: float) -> Iterator[npt.NDArray[np.float32]]:
        slowest, fastest = WORDS_PER_MINUTE
        pace = min(max(round(_NORMAL * speed), slowest), fastest)
        rest = _NORMAL * speed / pace
        if abs(rest - 1.0) < 0.02:
            for piece in self._espeak.stream(text, voice, words_per_minute=pace):
                yield piece.astype(np.float32) / 32768.0
        else:  # past what eSpeak NG does by itself
            samples, rate = self._espeak.synthesize(text, voice, words_per_minute=pace)
            yield stretch(samples.astype(np.float32) / 32768.0, rate, rest)

    def close(self) -> None:
        """Nothing to do: the library serves the whole process."""

    @staticmethod
    def _variant(voice: EspeakVoice, name: str) -> Voice:
        label, gender = _variants()[name]
        return Voice(f"{voice.name}+{name}", f"{voice.label}, {label}", _plain(voice).languages, gender)


@functools.cache
def _variants() -> dict[str, tuple[str, Literal["female", "male"] | None]]:
    """By its file's name, each variant's name for people and its gender."""
    import espeakng_loader

    found: dict[str, tuple[str, Literal["female", "male"] | None]] = {}
    for path in sorted((Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir()):
        lines = [line.split(None, 1) for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
        facts = {words[0]: words[1].strip() for words in reversed(lines) if len(words) == 2}
        gender = _GENDERS.get(facts.get("gender", "").split(" ")[0])
        found[path.name] = (facts.get("name", path.name), gender)
    return found


def _plain(voice: EspeakVoice) -> Voice:
    """The voice without a variant."""
    languages = tuple(_tag(code) for code in voice.languages)
    return Voice(voice.name, voice.label, languages, _GENDERS.get(voice.gender))


def _tag(code: str) -> str:
    """A language code in BCP 47's customary case: "en-US", "zh-Latn-pinyin"."""
    first, *rest = code.split("-")
    cased = [part.upper() if len(part) == 2 else part.title() if len(part) == 4 else part for part in rest]
    return "-".join([first, *cased])
