"""Whisper in ONNX: the contract, transcripts to the letter on models that recite, and the starter model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from support import optimum_whisper, tiny_whisper, whisper_checkpoint

from llama_pajamas_run_core.artifacts.formats import ONNX_WHISPER, identify
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.testing.stt import STTContract, babble
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_onnx.export import export
from llama_pajamas_run_onnx.stt import ONNXSTTBackend


def write(folder: Path, *args, precision: str = "fp32", **options) -> Path:
    return export(
        whisper_checkpoint.write(folder / "checkpoint", *args, **options), folder / "onnx", precision=precision
    )


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("english"))


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("german"), whisper_checkpoint.GERMAN, language=2, precision="fp16")


class TestEnglish(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, english: Path) -> Callable[[], ONNXSTTBackend]:
        return lambda: ONNXSTTBackend(english, short_context=True)


class TestMultilingualHalfTogether(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, german: Path) -> Callable[[], ONNXSTTBackend]:
        return lambda: ONNXSTTBackend(german, short_context=True, windows=3)


class TestOptimum(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXSTTBackend]:
        folder = optimum_whisper.write(tmp_path_factory.mktemp("optimum"), merged=True, attends=True)
        return lambda: ONNXSTTBackend(folder, threads=1)


def test_a_transcript_to_the_letter(english: Path) -> None:
    with ONNXSTTBackend(english) as backend:
        assert backend.languages == ("en",)
        made = backend.transcribe(babble(2.5))
    assert tiny_whisper.told(made) == tiny_whisper.SEGMENTS
    assert made.segments[0].avg_logprob == pytest.approx(0, abs=0.01)
    assert made.segments[0].no_speech_prob < 0.01


def test_a_cache_grows_when_it_is_full(tmp_path: Path) -> None:
    words = tuple(((" one",), place * 0.2, place * 0.2 + 0.2) for place in range(30))
    with ONNXSTTBackend(write(tmp_path, words)) as backend:
        made = backend.transcribe(babble(7.0))
    assert [one.text for one in made.segments] == ["one"] * 30


def test_the_language_is_detected(german: Path) -> None:
    with ONNXSTTBackend(german) as backend:
        assert backend.details["multilingual"] is True
        assert backend.detect_language(babble(2.0)) == "de"
        made = backend.transcribe(babble(2.0))
        assert (made.language, made.text) == ("de", "Grüße.")


@pytest.mark.parametrize("merged", [True, False])
def test_optimums_layout_is_understood(tmp_path: Path, merged: bool) -> None:
    folder = optimum_whisper.write(tmp_path, merged=merged, attends=True, where="onnx")
    assert identify(folder) is ONNX_WHISPER
    with ONNXSTTBackend(folder, short_context=True) as backend:
        made = backend.transcribe(babble(4.0), word_times=True)
    assert made.text == "Hello brave world. Goodbye."
    # The first text token stands behind the opening and "no times", and each token attends to 0.2 s.
    offset = made.segments[0].start
    assert [word.end - offset for word in made.words[:2]] == pytest.approx([0.4, 0.6], abs=0.03)


def test_optimums_layout_in_several_languages_and_variants(tmp_path: Path) -> None:
    options = {"transcript": whisper_checkpoint.GERMAN, "language": 2}
    folder = optimum_whisper.write(tmp_path, merged=False, ending="_quantized", **options)
    with ONNXSTTBackend(folder) as backend:  # the only variant there is
        assert backend.transcribe(babble(2.0)).text == "Grüße."
    for name in ("encoder_model", "decoder_model", "decoder_with_past_model"):
        (folder / f"{name}_broken.onnx").write_bytes((folder / f"{name}_quantized.onnx").read_bytes()[:2000])
    with pytest.raises(BadInput, match="encoder_model_quantized"):
        ONNXSTTBackend(folder)
    with ONNXSTTBackend(folder, variant="quantized") as backend:
        made = backend.transcribe(babble(2.0), word_times=True)
        assert (made.language, made.text) == ("de", "Grüße.")
        assert [word.text for word in made.words] == ["Grüße."]
    with pytest.raises(BadInput, match="'fp16'"):
        ONNXSTTBackend(folder, variant="fp16")


def test_damaged_folders_are_named(english: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no folder"):
        ONNXSTTBackend(tmp_path / "absent")
    with pytest.raises(LoadError, match=r"config\.json"):
        ONNXSTTBackend(tmp_path)
    config = json.loads((english / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="no graphs"):
        ONNXSTTBackend(tmp_path)
    (tmp_path / "encoder.onnx").write_bytes((english / "encoder.onnx").read_bytes())
    (tmp_path / "decoder.onnx").write_bytes((english / "decoder.onnx").read_bytes()[:5000])
    with pytest.raises(LoadError, match=r"decoder\.onnx"):
        ONNXSTTBackend(tmp_path)
    (tmp_path / "decoder.onnx").write_bytes((english / "decoder.onnx").read_bytes())
    config["dimensions"]["n_text_layer"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match="does not hold the graphs"):
        ONNXSTTBackend(tmp_path)


@pytest.mark.parametrize("options", [{"windows": 0}, {"device": "abacus"}, {"beam_size": 2}])
def test_senseless_options_are_refused(english: Path, options: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(options))):
        ONNXSTTBackend(english, **options)


class TestStarter:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        pytest.importorskip("llama_pajamas_starter", reason="the starter models are not installed")
        pytest.importorskip("espeakng_loader", reason="espeak is not installed")
        from llama_pajamas_starter.speech import hugging_face
        from llama_pajamas_starter.speech.checkpoint import Checkpoint

        folder = tmp_path_factory.mktemp("starter")
        return export(hugging_face.write(folder / "checkpoint", Checkpoint.load()), folder / "onnx")

    def test_it_hears_words_when_they_are_said(self, folder: Path) -> None:
        from support.spoken import spoken

        said = "Turn the kitchen lights to forty percent."
        sound, starts = spoken(said)
        with ONNXSTTBackend(folder, short_context=True) as backend:
            made = backend.transcribe(sound, word_times=True)
        assert made.text == said
        assert [word.start for word in made.words] == pytest.approx(starts, abs=0.12)

    def test_it_hears_what_was_said(self, folder: Path) -> None:
        from llama_pajamas_run_core.text.word_errors import word_error_rate
        from llama_pajamas_starter.speech.evaluate import held_out

        spoken = held_out(24, seed=7)
        with ONNXSTTBackend(folder, short_context=True) as backend:
            heard = [(one.text, backend.transcribe(Audio(one.waveform(), 16_000)).text) for one in spoken]
        assert word_error_rate(heard) <= 0.02, heard

    def test_it_hears_what_whisper_cpp_hears(self, folder: Path, tmp_path: Path) -> None:
        pytest.importorskip("_pywhispercpp", reason="pywhispercpp is not installed")
        from llama_pajamas_run_gguf.stt import GGUFSTTBackend
        from llama_pajamas_starter.speech import ggml
        from llama_pajamas_starter.speech.checkpoint import Checkpoint
        from llama_pajamas_starter.speech.evaluate import held_out

        sounds = [Audio(item.waveform(), 16_000) for item in held_out(8, seed=2)]
        with ONNXSTTBackend(folder, short_context=True) as backend:
            heard = [backend.transcribe(sound).text for sound in sounds]
        peer_model = ggml.write(tmp_path / "speech.bin", Checkpoint.load())
        with GGUFSTTBackend(peer_model, threads=1, short_context=True) as peer:
            assert heard == [peer.transcribe(sound).text for sound in sounds]

    def test_half_precision_weights_hear_the_same(self, folder: Path, tmp_path: Path) -> None:
        from llama_pajamas_starter.speech.evaluate import held_out

        half = export(folder.parent / "checkpoint", tmp_path / "half", precision="fp16")
        sizes = [sum(file.stat().st_size for file in one.glob("*.onnx")) for one in (folder, half)]
        assert sizes[1] < 0.52 * sizes[0]
        sounds = [Audio(item.waveform(), 16_000) for item in held_out(6, seed=3)]
        with ONNXSTTBackend(folder, short_context=True) as whole, ONNXSTTBackend(half, short_context=True) as backend:
            for sound in sounds:
                assert backend.transcribe(sound).text == whole.transcribe(sound).text

    def test_the_catalogue_brings_a_folder(self) -> None:
        from llama_pajamas_run_core.machine import Machine
        from llama_pajamas_run_core.types.tasks import Task

        artifact = Machine().find("starter-speech", Task.STT).artifact("onnx-whisper")
        folder = artifact.materialize()
        assert folder == artifact.materialize()
        assert identify(folder) is ONNX_WHISPER
        with ONNXSTTBackend(folder, **artifact.options) as backend:
            assert backend.transcribe(Audio(np.zeros(16_000, np.float32), 16_000)).text == ""
