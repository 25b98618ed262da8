"""whisper.cpp: the contract, and what surrounds the model, to the letter, on models that recite."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("_pywhispercpp")

from support import tiny_whisper

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.testing.stt import STTContract, babble
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_gguf.stt import GGUFSTTBackend


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper.write(tmp_path_factory.mktemp("whisper") / "english.bin")


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transcript = (((" Gr", "üße", "."), 0.0, 1.0),)
    return tiny_whisper.write(tmp_path_factory.mktemp("whisper") / "german.bin", transcript, language=2)


class TestEnglish(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, english: Path) -> Callable[[], GGUFSTTBackend]:
        return lambda: GGUFSTTBackend(english, threads=1)


class TestMultilingual(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, german: Path) -> Callable[[], GGUFSTTBackend]:
        return lambda: GGUFSTTBackend(german, threads=1)


def test_a_transcript_to_the_letter(english: Path) -> None:
    with GGUFSTTBackend(english, threads=1) as backend:
        assert backend.languages == ("en",)
        made = backend.transcribe(babble(2.5))
    assert tiny_whisper.told(made) == tiny_whisper.SEGMENTS
    vocabulary = tiny_whisper.Vocabulary(False)
    assert made.segments[0].tokens[-1] == ord(".")
    assert all(token < vocabulary.end for segment in made.segments for token in segment.tokens)
    assert made.segments[0].avg_logprob == pytest.approx(0, abs=0.01)
    assert made.segments[0].temperature == 0.0
    assert made.segments[0].no_speech_prob < 0.01
    assert made.language == "en"


def test_words_to_the_letter(english: Path) -> None:
    with GGUFSTTBackend(english, threads=1) as backend:
        made = backend.transcribe(babble(2.5), word_times=True)
    assert [word.text for word in made.words] == ["Hello", "brave", "world.", "Goodbye."]
    assert all(word.probability == pytest.approx(1, abs=0.01) for word in made.words)


def test_a_window_that_breaks_off_is_listened_to_again(tmp_path: Path) -> None:
    """The model stops in the middle of a phrase: what follows is another window, with its times moved along."""
    transcript = (((" One", "."), 0.0, 1.0), ((), 1.0, None))
    model = tiny_whisper.write(tmp_path / "again.bin", transcript)
    with GGUFSTTBackend(model, threads=1) as backend:
        made = backend.transcribe(babble(2.6))
    assert [segment.text for segment in made.segments] == ["One.", "One.", "One."]
    starts = [segment.start - made.segments[0].start for segment in made.segments]
    assert starts == pytest.approx([0.0, 1.0, 2.0], abs=0.03)


def test_the_language_is_detected(german: Path) -> None:
    with GGUFSTTBackend(german, threads=1) as backend:
        assert backend.details["multilingual"] is True
        assert {"en", "de", "fr", "zh"} <= set(backend.languages)
        assert len(backend.languages) == 99
        assert backend.detect_language(babble(2.0)) == "de"
        made = backend.transcribe(babble(2.0))
        assert (made.language, made.text) == ("de", "Grüße.")
        assert backend.transcribe(babble(2.0), language="fr-FR").language == "fr"


def test_an_unsure_model_is_asked_again_warmer(tmp_path: Path) -> None:
    model = tiny_whisper.write(tmp_path / "unsure.bin", confidence=0.3)
    with GGUFSTTBackend(model, threads=1) as backend:
        made = backend.transcribe(babble(2.0))
        assert made.text == "Hello brave world. Goodbye."
        assert [segment.temperature for segment in made.segments] == [0.2, 0.2]
        asked = backend.transcribe(babble(2.0), temperature=0.3)
        assert [segment.temperature for segment in asked.segments] == [0.3, 0.3]


def test_guesses_at_silence_are_dropped(tmp_path: Path) -> None:
    sure = tiny_whisper.write(tmp_path / "sure.bin", no_speech=1.0)
    with GGUFSTTBackend(sure, threads=1) as backend:
        made = backend.transcribe(babble(2.0))
        assert made.segments[0].no_speech_prob > 0.9
    unsure = tiny_whisper.write(tmp_path / "unsure.bin", no_speech=1.0, confidence=0.3)
    with GGUFSTTBackend(unsure, threads=1) as backend:
        assert backend.transcribe(babble(2.0)).segments == ()


def test_beams_and_short_context_hear_the_same(english: Path) -> None:
    expected = "Hello brave world. Goodbye."
    for options in ({"beam_size": 3}, {"short_context": True}, {"gpu": False}):
        with GGUFSTTBackend(english, threads=1, **options) as backend:
            assert backend.transcribe(babble(2.0)).text == expected
            assert backend.transcribe(babble(2.0), word_times=True).text == expected


@pytest.mark.parametrize("options", [{"threads": 0}, {"beam_size": 0}, {"lanes": 2}])
def test_senseless_options_are_refused(english: Path, options: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(options))):
        GGUFSTTBackend(english, **options)


def test_nothing_is_printed(english: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "llama_pajamas_run_gguf"), GGUFSTTBackend(english, threads=1) as backend:
        backend.transcribe(babble(2.0), word_times=True)
    assert capfd.readouterr() == ("", "")
    assert any("loading model" in record.message for record in caplog.records)


def test_the_process_ends_in_peace_with_a_model_loaded(english: Path) -> None:
    code = (
        "import sys; from llama_pajamas_run_gguf.stt import GGUFSTTBackend; "
        "from llama_pajamas_run_core.testing.stt import babble; "
        "backend = GGUFSTTBackend(sys.argv[1], threads=1); print(backend.transcribe(babble(2.0)).text)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(english)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "Hello brave world. Goodbye.", "")


class TestBrokenFiles:
    def test_cut_short(self, english: Path, tmp_path: Path) -> None:
        whole, part = english.read_bytes(), tmp_path / "part.bin"
        for size in (10, 60, 5_000, 400_000, len(whole) // 2, len(whole) - 1):
            part.write_bytes(whole[:size])
            with pytest.raises(LoadError, match=r"part\.bin"):
                GGUFSTTBackend(part)

    def test_another_kind_of_file(self, tmp_path: Path) -> None:
        for content in (b"GGUF" + bytes(100), b"hello", bytes(100)):
            (tmp_path / "model.bin").write_bytes(content)
            with pytest.raises(BadInput, match="whisper"):
                GGUFSTTBackend(tmp_path / "model.bin")

    def test_sizes_that_contradict_the_tensors(self, english: Path, tmp_path: Path) -> None:
        content = bytearray(english.read_bytes())
        content[4 + 4 * 5 : 4 + 4 * 6] = (447).to_bytes(4, "little")  # n_text_ctx
        (tmp_path / "odd.bin").write_bytes(content)
        with pytest.raises(LoadError, match=r"odd\.bin"):
            GGUFSTTBackend(tmp_path / "odd.bin")


def test_speech_of_a_known_voice_is_no_crash_at_any_length(english: Path) -> None:
    """Aligning words has ended the process for odd lengths: none may."""
    with GGUFSTTBackend(english, threads=1) as backend:
        for seconds in np.linspace(0.02, 2.4, 13):
            noise = 0.3 * np.random.default_rng(1).standard_normal(int(16_000 * seconds))
            backend.transcribe(Audio(noise.astype(np.float32), 16_000), word_times=True)


class TestStarter:
    """The shipped model on a spoken sentence: real words at their real times."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        from llama_pajamas_starter.speech import ggml
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        return ggml.write(tmp_path_factory.mktemp("starter") / "speech.bin", Checkpoint.load())

    @pytest.mark.parametrize("short_context", [False, True])
    def test_it_hears_words_when_they_are_said(self, model: Path, short_context: bool) -> None:
        pytest.importorskip("espeakng_loader")
        from support.spoken import spoken

        said = "Turn the kitchen lights to forty percent."
        sound, starts = spoken(said)
        with GGUFSTTBackend(model, threads=1, short_context=short_context) as backend:
            made = backend.transcribe(sound, word_times=True)
        assert made.text == said
        assert [word.text for word in made.words] == said.split()
        assert [word.start for word in made.words] == pytest.approx(starts, abs=0.12)
        assert all(segment.avg_logprob > -0.5 for segment in made.segments)
