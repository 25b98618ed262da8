"""The engine for macOS on stand-ins for Apple's classes: what is called, how buffers become samples, what ends it."""

import numpy as np
import pytest

from llama_pajamas_run_core.errors import InferenceError, LoadError
from llama_pajamas_run_system import _avfoundation
from llama_pajamas_run_system._avfoundation import AVFoundationEngine

SOUND = (0.4 * np.sin(np.arange(22_050) / 20)).astype(np.float32)


class _Channel:
    """PyObjC's view of a channel: a variable-length list with ``as_buffer``."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data

    def as_buffer(self, count: int) -> memoryview:
        return memoryview(np.ascontiguousarray(self._data[:count]))


class _Buffer:
    """AVAudioPCMBuffer, and its AVAudioFormat."""

    def __init__(self, data: np.ndarray, kind: int = 1, rate: float = 22_050.0, stride: int = 1) -> None:
        self._data, self._kind, self._rate, self._stride = data, kind, rate, stride

    def frameLength(self) -> int:
        return len(self._data) // self._stride

    def format(self) -> "_Buffer":
        return self

    def commonFormat(self) -> int:
        return self._kind

    def sampleRate(self) -> float:
        return self._rate

    def stride(self) -> int:
        return self._stride

    def floatChannelData(self) -> list[_Channel]:
        return [_Channel(self._data)]

    int16ChannelData = int32ChannelData = floatChannelData


class _NativeVoice:
    def __init__(self, identifier: str, name: str, language: str, gender: int) -> None:
        self.values = {"identifier": identifier, "name": name, "language": language, "gender": gender}

    def __getattr__(self, name: str):
        return lambda: self.values[name]


class _Utterance:
    def __init__(self, text: str) -> None:
        self.text = text

    def setVoice_(self, voice: _NativeVoice) -> None:
        self._voice = voice

    def voice(self) -> _NativeVoice:
        return self._voice


class _Mac:
    """Stands for the modules AVFoundation and Foundation; buffers come while the run loop is run, as on a Mac."""

    AVSpeechBoundaryImmediate = 0

    def __init__(self, buffers: list, voices: list[_NativeVoice] | None = None) -> None:
        self.buffers, self.pending, self.stopped, self.spoken = buffers, [], 0, []
        self.all_voices = VOICES if voices is None else voices
        self.AVSpeechSynthesisVoice = self.AVSpeechSynthesizer = self.NSRunLoop = self.NSDate = self
        self.AVSpeechUtterance = self

    def speechVoices(self) -> list[_NativeVoice]:
        return self.all_voices

    def currentLanguageCode(self) -> str:
        return "en-US"

    def alloc(self) -> "_Mac":
        return self

    init = currentRunLoop = alloc

    def speechUtteranceWithString_(self, text: str) -> _Utterance:
        return _Utterance(text)

    def writeUtterance_toBufferCallback_(self, utterance: _Utterance, callback) -> None:
        self.spoken.append((utterance.text, utterance.voice().identifier()))
        self.pending = [(callback, buffer) for buffer in self.buffers]

    def dateWithTimeIntervalSinceNow_(self, seconds: float) -> float:
        return seconds

    def runUntilDate_(self, _: float) -> None:
        if self.pending:
            callback, buffer = self.pending.pop(0)
            callback(buffer)

    def stopSpeakingAtBoundary_(self, _: int) -> None:
        self.stopped += 1
        self.pending = []


VOICES = [
    _NativeVoice("com.apple.speech.synthesis.voice.Zarvox", "Zarvox", "en-US", 0),
    _NativeVoice("com.apple.voice.compact.de-DE.Anna", "Anna", "de-DE", 2),
    _NativeVoice("com.apple.voice.compact.en-US.Samantha", "Samantha", "en-US", 2),
    _NativeVoice("com.apple.voice.compact.en-GB.Daniel", "Daniel", "en-GB", 1),
]
SAMANTHA = VOICES[2].values["identifier"]
END = _Buffer(np.zeros(0, np.float32))


def _engine(mac: _Mac) -> AVFoundationEngine:
    return AVFoundationEngine(mac, mac)


def test_a_real_voice_of_the_users_language_comes_first() -> None:
    voices = _engine(_Mac([])).voices
    assert [voice.name for voice in voices] == ["Samantha", "Zarvox", "Anna", "Daniel"]
    assert voices[0].gender == "female"
    assert voices[0].languages == ("en-US",)
    assert voices[1].gender is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(SAMANTHA.upper(), "Samantha"), ("daniel", "Daniel"), ("de", "Anna"), ("en-gb", "Daniel"), ("fr", None)],
)
def test_voices_are_found_by_id_name_and_language(wanted: str, found: str | None) -> None:
    voice = _engine(_Mac([])).find(wanted)
    assert (voice.name if voice else None) == found


def test_buffers_become_pieces() -> None:
    mac = _Mac([_Buffer(SOUND[:10_000]), _Buffer(SOUND[10_000:]), END])
    pieces = list(_engine(mac).speak("Hello.", SAMANTHA, 1.0))
    np.testing.assert_array_equal(np.concatenate(pieces), SOUND)
    assert [len(piece) for piece in pieces] == [10_000, 12_050]
    assert mac.spoken == [("Hello.", SAMANTHA)]


@pytest.mark.parametrize(("kind", "scale", "dtype"), [(3, 32_768, np.int16), (4, 2**31, np.int32)])
def test_integer_samples_are_scaled(kind: int, scale: int, dtype: type) -> None:
    mac = _Mac([_Buffer((SOUND.astype(np.float64) * scale).astype(dtype), kind), END])
    np.testing.assert_allclose(np.concatenate(list(_engine(mac).speak("Hi", SAMANTHA, 1.0))), SOUND, atol=1 / 32_000)


def test_interleaved_channels_and_another_rate() -> None:
    mac = _Mac([_Buffer(np.repeat(SOUND, 2), rate=44_100.0, stride=2), END])
    (piece,) = _engine(mac).speak("Hi", SAMANTHA, 1.0)
    assert len(piece) == pytest.approx(len(SOUND) / 2, abs=2)


def test_speed_stretches_the_sound() -> None:
    mac = _Mac([_Buffer(SOUND), END])
    assert sum(map(len, _engine(mac).speak("Hi", SAMANTHA, 2.0))) == len(SOUND) // 2


def test_a_reader_that_leaves_stops_the_synthesizer() -> None:
    mac = _Mac([_Buffer(SOUND)] * 5 + [END])
    stream = _engine(mac).speak("Hello", SAMANTHA, 1.0)
    next(stream)
    stream.close()
    assert mac.stopped == 1


def test_a_stuck_synthesizer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_avfoundation, "_PATIENCE", 0.1)
    mac = _Mac([])
    with pytest.raises(InferenceError, match="Samantha"):
        list(_engine(mac).speak("Hello", SAMANTHA, 1.0))
    assert mac.stopped == 1


def test_an_unknown_sample_format_is_an_error() -> None:
    with pytest.raises(InferenceError, match="format 9"):
        list(_engine(_Mac([_Buffer(SOUND, kind=9), END])).speak("Hello", SAMANTHA, 1.0))


def test_no_voice_is_a_load_error() -> None:
    with pytest.raises(LoadError, match="no voice"):
        _engine(_Mac([], voices=[]))


def test_close_is_idempotent() -> None:
    mac = _Mac([])
    engine = _engine(mac)
    engine.close()
    engine.close()
    assert mac.stopped == 1
