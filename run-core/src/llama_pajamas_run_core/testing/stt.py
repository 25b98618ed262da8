"""What every speech-to-text backend must do."""

from typing import Any

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.resample import resample
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.testing.base import BackendContract
from llama_pajamas_run_core.types.audio import Audio, Transcript


def babble(seconds: float, rate: int = 16_000, seed: int = 0) -> Audio:
    """Noise in syllables: what a detector of speech lets through, whatever a recognizer makes of it."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    loudness = np.maximum(0.0, np.sin(2 * np.pi * 2.5 * time)) ** 2
    return Audio((0.2 * loudness * rng.standard_normal(len(time))).astype(np.float32), rate)


class STTContract(BackendContract):
    """Times, silence, long audio, rates and options."""

    @classmethod
    def sample(cls) -> Audio:
        """A few seconds that the model makes at least one segment of."""
        return babble(3.0)

    @pytest.fixture(scope="class")
    @classmethod
    def speech(cls) -> Audio:
        """The sample, made once."""
        return cls.sample()

    def ask(self, backend: Any) -> Transcript:
        made: Transcript = backend.transcribe(self.sample(), temperature=0.0)
        return made

    def ask_wrongly(self, backend: Any) -> Any:
        return backend.transcribe(self.sample(), language="xx")

    def same(self, one: Transcript, other: Transcript) -> bool:
        # Probabilities may differ in their last digits with what the native state did before.
        exact, near = zip(*((_exact(made), _near(made)) for made in (one, other)), strict=True)
        return bool(exact[0] == exact[1]) and np.allclose(near[0], near[1], atol=1e-3)

    @staticmethod
    def _check_times(made: Transcript) -> None:
        before = 0.0
        for segment in made.segments:
            assert segment.text == segment.text.strip()
            assert segment.text
            assert before - 1e-6 <= segment.start <= segment.end <= made.duration + 1e-6
            before = segment.start

    def test_segments_lie_in_order_inside_the_audio(self, backend: Any, speech: Audio) -> None:
        made = backend.transcribe(speech)
        assert made.segments
        assert made.duration == pytest.approx(speech.duration)
        assert made.text
        self._check_times(made)
        for segment in made.segments:
            assert segment.words == ()
            assert segment.avg_logprob <= 0
            assert 0 <= segment.no_speech_prob <= 1
            assert segment.compression_ratio > 0
            assert 0 <= segment.temperature <= 1

    def test_words_lie_in_order_inside_their_segment(self, backend: Any, speech: Audio) -> None:
        made = backend.transcribe(speech, word_times=True)
        self._check_times(made)
        assert made.words
        for segment in made.segments:
            assert " ".join(word.text for word in segment.words).replace(" ", "") == segment.text.replace(" ", "")
            before = segment.start
            for word in segment.words:
                assert before - 1e-6 <= word.start <= word.end <= segment.end + 1e-6
                assert word.probability is None or 0 <= word.probability <= 1
                before = word.start

    def test_word_times_do_not_change_the_text(self, backend: Any, speech: Audio) -> None:
        assert backend.transcribe(speech, word_times=True).text == backend.transcribe(speech).text

    def test_stream_joined_is_transcribe(self, backend: Any, speech: Audio) -> None:
        whole = backend.transcribe(speech, temperature=0.0)
        pieces = tuple(backend.stream(speech, temperature=0.0, language=whole.language))
        assert self.same(Transcript(pieces, whole.language, whole.duration), whole)

    def test_a_half_heard_stream_frees_the_model(self, backend: Any, speech: Audio) -> None:
        long = Audio(np.tile(speech.samples, 20), speech.rate)
        stream = backend.stream(long)
        next(stream)
        stream.close()
        assert backend.transcribe(speech).segments

    @pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5, 3.0, 40.0])
    def test_silence_is_nothing_said(self, backend: Any, seconds: float) -> None:
        made = backend.transcribe(Audio(np.zeros(int(16_000 * seconds), np.float32), 16_000), word_times=True)
        assert made.segments == ()
        assert made.text == ""
        assert made.duration == pytest.approx(seconds)

    @pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4])
    def test_very_short_sound(self, backend: Any, seconds: float) -> None:
        noise = 0.3 * np.random.default_rng(0).standard_normal(int(16_000 * seconds))
        self._check_times(backend.transcribe(Audio(noise.astype(np.float32), 16_000), word_times=True))

    def test_long_audio_is_heard_to_its_end(self, backend: Any, speech: Audio) -> None:
        pause = np.zeros(6 * speech.rate, np.float32)
        parts = [part for _ in range(8) for part in (speech.samples, pause)]
        made = backend.transcribe(Audio(np.concatenate(parts), speech.rate), word_times=True)
        self._check_times(made)
        starts = np.array([segment.start for segment in made.segments])
        for turn in range(8):
            begins = turn * (speech.duration + 6)
            assert ((starts > begins - 1) & (starts < begins + speech.duration)).any(), f"turn {turn} was not heard"

    @pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
    def test_any_rate_is_taken(self, backend: Any, speech: Audio, rate: int) -> None:
        made = backend.transcribe(Audio(resample(speech.samples, speech.rate, rate), rate))
        assert made.duration == pytest.approx(speech.duration, abs=0.01)
        assert made.segments
        self._check_times(made)

    def test_an_unknown_language_lists_the_known(self, backend: Any, speech: Audio) -> None:
        with pytest.raises(BadInput, match="'xx'") as raised:
            backend.transcribe(speech, language="xx")
        assert backend.languages[0] in str(raised.value)
        assert backend.transcribe(speech, language=backend.languages[0].upper()).language == backend.languages[0]

    @pytest.mark.parametrize("temperature", [-0.1, 1.5, float("nan")])
    def test_a_temperature_out_of_range_is_refused(self, backend: Any, speech: Audio, temperature: float) -> None:
        with pytest.raises(BadInput, match="temperature"):
            backend.transcribe(speech, temperature=temperature)

    def test_a_prompt_and_a_temperature_are_taken(self, backend: Any, speech: Audio) -> None:
        made = backend.transcribe(speech, prompt="Names: Zoë, Ørsted. " * 40, temperature=0.5)
        self._check_times(made)
        assert all(segment.temperature == 0.5 for segment in made.segments)

    def test_translation_says_so(self, backend: Any, speech: Audio) -> None:
        if not backend.translates:
            pytest.skip("the model does not translate")
        assert backend.transcribe(speech, task="translate").task == "translate"


def _exact(made: Transcript) -> tuple[Any, ...]:
    return made.language, made.duration, [(one.text, one.tokens, one.start, one.end) for one in made.segments]


def _near(made: Transcript) -> list[float]:
    return [value for one in made.segments for value in (one.avg_logprob, one.no_speech_prob, one.temperature)]
