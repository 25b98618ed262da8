"""The system's voices: the contract on eSpeak NG, and what is its own."""

import importlib.util
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.testing.tts import TTSContract
from llama_pajamas_run_system.tts import SystemTTSBackend


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed")
class TestEspeak(TTSContract):
    repeatable = False  # eSpeak NG carries the phase of its wave generator from one text to the next

    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Callable[[], SystemTTSBackend]:
        return lambda: SystemTTSBackend("espeak")

    def test_the_default_voice_is_american_english(self, backend: SystemTTSBackend) -> None:
        assert backend.voices[0].id == "en-us"
        assert backend.voices[0].languages[0] == "en-US"

    def test_variants_have_the_gender_of_their_speaker(self, backend: SystemTTSBackend) -> None:
        voices = {voice.id: voice for voice in backend.voices}
        assert voices["en-us+f3"].gender == "female"
        assert voices["en-us+m2"].gender == "male"
        assert backend.find_voice("nova").gender == "female"
        assert backend.find_voice("onyx").gender == "male"

    @pytest.mark.parametrize(
        ("wanted", "found"), [("fr-fr+f2", "fr-fr+f2"), ("DE", "de"), ("en", "en-us"), ("en-gb+Annie", "en-gb+Annie")]
    )
    def test_voices_beside_the_listed_ones(self, backend: SystemTTSBackend, wanted: str, found: str) -> None:
        assert backend.find_voice(wanted).id == found
        assert len(backend.speak("Bonjour.", voice=wanted).samples)

    def test_a_variant_that_does_not_exist(self, backend: SystemTTSBackend) -> None:
        with pytest.raises(BadInput, match=r"en-us\+f99"):
            backend.speak("Hello", voice="en-us+f99")

    def test_a_variant_sounds_different(self, backend: SystemTTSBackend) -> None:
        low, high = (backend.speak("Good morning.", voice=f"en-us+{name}") for name in ("m1", "f3"))
        assert _pitch(high.samples, high.rate) > 1.3 * _pitch(low.samples, low.rate)

    def test_the_language_chooses_a_voice(self, backend: SystemTTSBackend) -> None:
        german, english = (
            backend.speak("Guten Tag, Herr Meier.", language="de-AT"),
            backend.speak("Guten Tag, Herr Meier."),
        )
        assert german.duration != english.duration
        with pytest.raises(BadInput, match="xx"):
            backend.speak("Hello", language="xx")

    def test_the_first_piece_comes_before_the_last_is_made(self, backend: SystemTTSBackend) -> None:
        pieces = list(backend.stream(self.sentence))
        assert len(pieces) > 10
        assert pieces[0].duration < 0.2

    def test_speed_keeps_the_pitch(self, backend: SystemTTSBackend) -> None:
        normal, fast = (backend.speak(self.sentence, speed=speed) for speed in (1.0, 4.0))
        assert _pitch(fast.samples, fast.rate) == pytest.approx(_pitch(normal.samples, normal.rate), rel=0.15)


def test_no_model_means_the_systems_own() -> None:
    with SystemTTSBackend() as backend:
        assert backend.loaded
        assert backend.details["engine"] == ("AVFoundation" if sys.platform == "darwin" else "eSpeak NG")


def test_unknown_engines_and_options_are_refused() -> None:
    with pytest.raises(LoadError, match="sapi"):
        SystemTTSBackend("sapi")
    with pytest.raises(BadInput, match="gpu"):
        SystemTTSBackend("espeak", gpu=True)


@pytest.mark.apple
@pytest.mark.skipif(sys.platform != "darwin", reason="the voices of macOS")
class TestAVFoundation(TTSContract):
    repeatable = False

    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Callable[[], SystemTTSBackend]:
        return lambda: SystemTTSBackend("avfoundation")


def _pitch(samples: np.ndarray, rate: int) -> float:
    """The median fundamental frequency of the loud parts, in hertz."""
    size = rate // 20
    pitches = list(_pitches(samples, rate, size))
    return float(np.median(pitches))


def _pitches(samples: np.ndarray, rate: int, size: int) -> Iterator[float]:
    for start in range(0, len(samples) - 2 * size, size):
        frame = samples[start : start + 2 * size]
        if np.abs(frame).max() < 0.1:
            continue
        likeness = np.correlate(frame, frame[:size], "valid")
        low, high = rate // 400, rate // 60
        yield rate / (low + int(likeness[low:high].argmax()))
