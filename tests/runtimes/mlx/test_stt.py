"""Whisper on MLX: the contract, and what surrounds the model, to the letter, on models that recite."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlx.core", reason="mlx is not installed", exc_type=ImportError)
pytest.importorskip("llama_pajamas_starter", reason="the starter models are not installed")

from support import tiny_whisper, whisper_checkpoint

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.testing.stt import STTContract, babble
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.whisper.vocabulary import Vocabulary
from llama_pajamas_run_mlx.stt import MLXSTTBackend
from llama_pajamas_starter.speech import mlx_folder


def write(folder: Path, transcript=tiny_whisper.TRANSCRIPT, *, language=None, **options) -> Path:
    vocabulary, embedding, positions = whisper_checkpoint.recital(transcript, language=language, **options)
    tensors = dict(tiny_whisper.tensors(embedding, positions))
    return mlx_folder.write_tensors(folder, whisper_checkpoint.sizes(vocabulary), tensors)


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("whisper") / "english")


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("whisper") / "german", whisper_checkpoint.GERMAN, language=2)


class TestEnglish(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, english: Path) -> Callable[[], MLXSTTBackend]:
        return lambda: MLXSTTBackend(english, short_context=True)


class TestMultilingual(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, german: Path) -> Callable[[], MLXSTTBackend]:
        return lambda: MLXSTTBackend(german, short_context=True)


def test_a_transcript_to_the_letter(english: Path) -> None:
    with MLXSTTBackend(english) as backend:
        assert backend.languages == ("en",)
        made = backend.transcribe(babble(2.5))
    assert tiny_whisper.told(made) == tiny_whisper.SEGMENTS
    assert made.segments[0].avg_logprob == pytest.approx(0, abs=0.01)
    assert made.segments[0].temperature == 0.0
    assert made.segments[0].no_speech_prob < 0.01
    assert made.language == "en"


def test_words_to_the_letter(english: Path) -> None:
    with MLXSTTBackend(english) as backend:
        made = backend.transcribe(babble(2.5), word_times=True)
    assert [word.text for word in made.words] == ["Hello", "brave", "world.", "Goodbye."]
    assert all(word.probability == pytest.approx(1, abs=0.01) for word in made.words)


def test_a_window_that_breaks_off_is_listened_to_again(tmp_path: Path) -> None:
    model = write(tmp_path / "again", (((" One", "."), 0.0, 1.0), ((), 1.0, None)))
    with MLXSTTBackend(model) as backend:
        made = backend.transcribe(babble(2.6))
    assert [segment.text for segment in made.segments] == ["One.", "One.", "One."]
    starts = [segment.start - made.segments[0].start for segment in made.segments]
    assert starts == pytest.approx([0.0, 1.0, 2.0], abs=0.03)


def test_windows_heard_together_are_heard_alike(english: Path) -> None:
    pause = np.zeros(6 * 16_000, np.float32)
    long = Audio(np.concatenate([part for _ in range(5) for part in (babble(2.5).samples, pause)]), 16_000)
    with MLXSTTBackend(english, short_context=True) as one, MLXSTTBackend(english, windows=3) as several:
        alone = one.transcribe(long, word_times=True)
        together = several.transcribe(long, word_times=True)
    assert len(alone.segments) == 10
    assert [(s.text, s.start, s.end) for s in together.segments] == [(s.text, s.start, s.end) for s in alone.segments]


def test_the_language_is_detected(german: Path) -> None:
    with MLXSTTBackend(german) as backend:
        assert backend.details["multilingual"] is True
        assert len(backend.languages) == 99
        assert backend.detect_language(babble(2.0)) == "de"
        made = backend.transcribe(babble(2.0))
        assert (made.language, made.text) == ("de", "Grüße.")
        assert backend.transcribe(babble(2.0), language="fr-FR").language == "fr"


def test_an_unsure_model_is_asked_again_warmer(tmp_path: Path) -> None:
    with MLXSTTBackend(write(tmp_path / "unsure", confidence=0.2)) as backend:
        made = backend.transcribe(babble(2.0))
        assert made.segments[0].temperature > 0
        asked = backend.transcribe(babble(2.0), temperature=0.3)
        assert {segment.temperature for segment in asked.segments} <= {0.3}


def test_guesses_at_silence_are_dropped(tmp_path: Path) -> None:
    with MLXSTTBackend(write(tmp_path / "sure", no_speech=1.0)) as backend:
        assert backend.transcribe(babble(2.0)).segments[0].no_speech_prob > 0.9
    with MLXSTTBackend(write(tmp_path / "unsure", no_speech=1.0, confidence=0.2)) as backend:
        assert backend.transcribe(babble(2.0)).segments == ()


def test_a_vocabulary_is_whispers() -> None:
    english, many = Vocabulary.of(51_864), Vocabulary.of(51_865)
    assert (english.end, english.first_time, english.no_times) == (50_256, 50_363, 50_362)
    assert (many.end, many.first_time, many.transcribe, many.language("de")) == (50_257, 50_364, 50_359, 50_261)
    assert Vocabulary.of(51_866).languages[-1] == "yue"
    for vocabulary in (english, many):
        for text in (" Hello, world's 21 llamas!", "Grüße 日本語 \U0001f389", "  two  spaces "):
            tokens = vocabulary.encode(text)
            assert b"".join(vocabulary.texts[token] for token in tokens).decode() == text
    assert english.encode(" Hello world") == [18435, 995]


def test_damaged_folders_are_named(english: Path, tmp_path: Path) -> None:
    config = (english / "config.json").read_bytes()
    weights = (english / "weights.safetensors").read_bytes()
    with pytest.raises(LoadError, match="config"):
        MLXSTTBackend(tmp_path)
    (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(LoadError, match="weights"):
        MLXSTTBackend(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(weights[:5000])
    with pytest.raises(LoadError, match="could not be loaded"):
        MLXSTTBackend(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text(json.dumps(json.loads(config) | {"n_text_layer": 4}))
    with pytest.raises(LoadError, match="lacks"):
        MLXSTTBackend(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(json.loads(config) | {"n_mels": 128}))
    with pytest.raises(LoadError, match=r"shape.*encoder\.conv1"):
        MLXSTTBackend(tmp_path)


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"threads": 2}, {"windows": 0}])
def test_senseless_options_are_refused(english: Path, options: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(options))):
        MLXSTTBackend(english, **options)


@pytest.mark.parametrize("short_context", [False, True])
def test_the_starter_hears_words_when_they_are_said(tmp_path: Path, short_context: bool) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak is not installed")
    from support.spoken import spoken

    from llama_pajamas_starter.speech.checkpoint import Checkpoint

    model = mlx_folder.write(tmp_path / "starter", Checkpoint.load())
    said = "Turn the kitchen lights to forty percent."
    sound, starts = spoken(said)
    with MLXSTTBackend(model, short_context=short_context) as backend:
        made = backend.transcribe(sound, word_times=True)
    assert made.text == said
    assert [word.text for word in made.words] == said.split()
    assert [word.start for word in made.words] == pytest.approx(starts, abs=0.12)
    assert all(segment.avg_logprob > -0.5 for segment in made.segments)


def test_the_starter_hears_what_whisper_cpp_hears(tmp_path: Path) -> None:
    pytest.importorskip("_pywhispercpp", reason="pywhispercpp is not installed")
    pytest.importorskip("espeakng_loader", reason="espeak is not installed")
    from llama_pajamas_run_gguf.stt import GGUFSTTBackend
    from llama_pajamas_starter.speech import ggml
    from llama_pajamas_starter.speech.checkpoint import Checkpoint
    from llama_pajamas_starter.speech.evaluate import held_out

    checkpoint = Checkpoint.load()
    sounds = [Audio(item.waveform(), 16_000) for item in held_out(8, seed=2)]
    with MLXSTTBackend(mlx_folder.write(tmp_path / "mlx", checkpoint), short_context=True) as backend:
        heard = [backend.transcribe(sound).text for sound in sounds]
    with GGUFSTTBackend(ggml.write(tmp_path / "speech.bin", checkpoint), threads=1, short_context=True) as peer:
        assert heard == [peer.transcribe(sound).text for sound in sounds]


def test_speech_and_language_share_the_thread_under_load(english: Path, starter_chat: Path) -> None:
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed")
    from llama_pajamas_run_mlx.llm import MLXLLMBackend

    with MLXSTTBackend(english, short_context=True) as ears, MLXLLMBackend(starter_chat, n_lanes=4) as mind:
        alone = ears.transcribe(babble(2.5)).text
        streams = [mind.stream("Hello!", max_tokens=12, temperature=0.0) for _ in range(6)]
        with ThreadPoolExecutor(3) as callers:
            heard = list(callers.map(lambda _: ears.transcribe(babble(2.5)).text, range(3)))
        assert heard == [alone] * 3
        assert len({stream.result().text for stream in streams}) == 1
    assert [thread.name for thread in threading.enumerate()].count("mlx") == 1


def test_the_catalogue_brings_a_folder_for_each_task() -> None:
    from llama_pajamas_run_core.artifacts.formats import MLX_WHISPER, identify
    from llama_pajamas_run_core.machine import Machine
    from llama_pajamas_run_core.types.tasks import Task

    machine = Machine()
    artifact = machine.find("starter-speech", Task.STT).artifact("mlx-whisper")
    folder = artifact.materialize()
    assert folder == artifact.materialize()
    assert identify(folder) is MLX_WHISPER
    with MLXSTTBackend(folder, **artifact.options) as backend:
        assert backend.transcribe(Audio(np.zeros(16_000, np.float32), 16_000)).text == ""
    assert (machine.find("starter-chat", Task.LLM).artifact("mlx").materialize() / "config.json").is_file()
