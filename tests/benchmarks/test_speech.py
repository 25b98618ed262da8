"""The speech benchmark's models are real Whisper models, and its command says what it wants."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

from llama_pajamas_run_core.types.audio import TranscribeOptions
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_onnx.stt import ONNXSTTBackend

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def test_models_are_made_once_and_run(script, tmp_path):
    models = script("speech_models")
    place = models.model_path("smallest", tmp_path)
    before = (place / "onnx" / "decoder.onnx").stat().st_mtime_ns
    assert models.model_path("smallest", tmp_path) == place
    assert (place / "onnx" / "decoder.onnx").stat().st_mtime_ns == before
    with ONNXSTTBackend(place / "onnx", windows=2) as backend:
        assert backend.details["multilingual"] is True
        whisper = backend._whisper
        sound = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) * 0.1
        heard = backend._ready().run(lambda: whisper.listen([sound] * 2, TranscribeOptions(language="en")))
    assert heard[0].tokens == heard[1].tokens
    assert len(heard[0].tokens) > 0


@pytest.mark.parametrize(("size", "parameters"), [("tiny", 37.8e6), ("base", 72.6e6), ("small", 241.7e6)])
def test_sizes_are_openais(script, size, parameters):
    config = script("speech_models").config(size)
    sizes = Dimensions.of(config)
    width, layers = sizes.n_text_state, sizes.n_text_layer
    rows = sizes.n_vocab + sizes.n_text_ctx + sizes.n_audio_ctx
    blocks = layers * (12 + 16) * width**2 + 3 * width * sizes.n_mels + 3 * width**2
    assert rows * width + blocks == pytest.approx(parameters, rel=0.01)


def test_the_command_wants_a_folder(script, capsys):
    with pytest.raises(SystemExit):
        script("tensorrt_speech").options([])
    assert "--models" in capsys.readouterr().err
    given = script("tensorrt_speech").options(["--models", "here"])
    assert (given.batches, given.tokens, given.rounds) == ("1,8", 100, 7)
