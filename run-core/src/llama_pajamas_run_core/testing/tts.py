"""What every text-to-speech backend must do."""

from typing import Any, ClassVar

import numpy as np
import pytest

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.testing.base import BackendContract
from llama_pajamas_run_core.types.audio import Audio

#: Texts that people and language models really send.
AWKWARD = {
    "emoji": "Great job! \U0001f389\U0001f600 See you \U0001f44b\U0001f3fd.",
    "address": "See https://example.com/a?b=1&c=%20x#top or write to me@example.com.",
    "numbers": "1,234.56 plus -7.5e3 is 50 % of $99.99 on 2024-02-29 at 07:05.",
    "markup": '<speak><break time="3s"/>Hello</speak> [[h@loU]] {x} & more',
    "control": "one\x00two\x07three\ttab\r\nline\u2028end\ufeff",
    "half a pair": "Hello \ud83d there.",
    "scripts": "Grüße, Žluťoučký kůň, Привет, 你好, مرحبا, नमस्ते.",
    "one word": "Hello",
    "no end": "and then, because of that, it went on and on without any stop",
    "long word": "a" * 500,
}


class TTSContract(BackendContract):
    """Voices, speed, rate and awkward texts.

    Attributes:
        sentence: a sentence of several words in the default voice's language.
        speed_error: by how much a speech's length may miss what the speed asks, as a fraction.
    """

    sentence: ClassVar[str] = (
        "Turn the kitchen lights to forty percent, then tell me about the weather tomorrow morning."
    )
    speed_error: ClassVar[float] = 0.1

    def ask(self, backend: Any) -> Audio:
        made: Audio = backend.speak(self.sentence)
        return made

    def ask_wrongly(self, backend: Any) -> Any:
        return backend.speak(self.sentence, voice="no such voice")

    def same(self, one: Audio, other: Audio) -> bool:
        if self.repeatable:
            return one.rate == other.rate and np.array_equal(one.samples, other.samples)
        return one.rate == other.rate and abs(one.duration / other.duration - 1) < 0.05

    def test_speech_is_sound_at_the_declared_rate(self, backend: Any) -> None:
        made = self.ask(backend)
        assert made.rate == backend.rate
        assert made.samples.dtype == np.float32
        assert 1.0 < made.duration < 30.0
        assert np.isfinite(made.samples).all()
        assert 0.01 < np.abs(made.samples).max() <= 1.0

    def test_stream_joined_is_speak(self, backend: Any) -> None:
        pieces = list(backend.stream(self.sentence))
        assert pieces
        assert all(piece.rate == backend.rate and len(piece.samples) for piece in pieces)
        assert self.same(self.ask(backend), Audio(np.concatenate([piece.samples for piece in pieces]), backend.rate))

    def test_a_half_heard_stream_frees_the_model(self, backend: Any) -> None:
        stream = backend.stream(" ".join([self.sentence] * 20))
        next(stream)
        stream.close()
        assert len(self.ask(backend).samples)

    def test_voices_are_listed_once_each(self, backend: Any) -> None:
        ids = [voice.id for voice in backend.voices]
        assert ids
        assert len(ids) == len(set(ids))
        assert all(voice.id and voice.name for voice in backend.voices)

    def test_every_listed_voice_is_found_by_its_id(self, backend: Any) -> None:
        assert [backend.find_voice(voice.id).id for voice in backend.voices] == [voice.id for voice in backend.voices]
        assert backend.find_voice(None) == backend.voices[0]

    def test_openai_voices_speak(self, backend: Any) -> None:
        for name in ("alloy", "onyx", "Nova"):
            assert backend.find_voice(name).languages[:1] == backend.voices[0].languages[:1]
        assert len(backend.speak("Hello there.", voice="alloy").samples)

    def test_an_unknown_voice_lists_the_voices(self, backend: Any) -> None:
        with pytest.raises(BadInput, match="no such voice") as raised:
            self.ask_wrongly(backend)
        assert backend.voices[0].id in str(raised.value)
        assert raised.value.param == "voice"

    @pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.3, 2.0, 4.0])
    def test_speed_divides_the_duration(self, backend: Any, speed: float) -> None:
        normal, other = self.ask(backend), backend.speak(self.sentence, speed=speed)
        assert normal.duration / other.duration == pytest.approx(speed, rel=self.speed_error)
        assert np.abs(other.samples).max() > 0.01

    @pytest.mark.parametrize("speed", [0.1, 5.0, float("nan")])
    def test_a_speed_out_of_range_is_refused(self, backend: Any, speed: float) -> None:
        with pytest.raises(BadInput, match="speed"):
            backend.speak(self.sentence, speed=speed)

    @pytest.mark.parametrize("name", sorted(AWKWARD))
    def test_awkward_text_is_spoken(self, backend: Any, name: str) -> None:
        made = backend.speak(AWKWARD[name])
        assert len(made.samples)
        assert np.isfinite(made.samples).all()

    def test_4096_characters_are_spoken(self, backend: Any) -> None:
        text = (self.sentence + " ") * (4096 // len(self.sentence) + 1)
        stream = backend.stream(text[:4096])
        seconds = sum(piece.duration for piece in stream)
        assert seconds > 20 * self.ask(backend).duration

    @pytest.mark.parametrize("text", ["", "   ", "\n", "...", "\U0001f600", "—"])
    def test_text_without_words_is_silent(self, backend: Any, text: str) -> None:
        made = backend.speak(text)
        assert made.rate == backend.rate
        assert len(made.samples) == 0
