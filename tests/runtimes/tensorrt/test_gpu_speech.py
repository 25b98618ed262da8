"""Whisper on a machine with an NVIDIA GPU, TensorRT and PyCUDA: ``pytest -m gpu tests/runtimes/tensorrt``."""

from pathlib import Path

import numpy as np
import pytest
from support import whisper_checkpoint
from support.tensorrt_gpu import NEEDS_TENSORRT

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.testing.stt import babble
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_onnx.export import export
from llama_pajamas_run_onnx.stt import ONNXSTTBackend
from llama_pajamas_starter.speech import hugging_face
from llama_pajamas_starter.speech.checkpoint import Checkpoint

pytestmark = NEEDS_TENSORRT


@pytest.fixture(scope="module")
def starter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("starter")
    return export(hugging_face.write(folder / "checkpoint", Checkpoint.load()), folder / "onnx")


def logits(backend, mel: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The logits behind each column of tokens, read one after the other."""

    def read() -> np.ndarray:
        model = backend._whisper.model
        transcript = model.start(model.encode(mel))
        return np.stack([model.step(transcript, one[:, None]).copy() for one in tokens.T])

    return backend._ready().run(read)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("fp16", 2e-2)])
@pytest.mark.parametrize("rows", [1, 3])
def test_logits_and_attention_are_those_of_onnx_runtime(starter, precision, tolerance, rows):
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend

    rng = np.random.default_rng(0)
    mel = rng.standard_normal((rows, 80, 3000), np.float32)
    tokens = rng.integers(0, 50_000, (rows, 12), np.int32)
    with (
        ONNXSTTBackend(starter) as plain,
        TensorRTSTTBackend(starter, precision=precision, windows=3, level=1) as backend,
    ):
        wanted, made = logits(plain, mel, tokens), logits(backend, mel, tokens)
        assert np.abs(made - wanted).max() <= tolerance * np.abs(wanted).max()
        seen = []
        for one in (plain, backend):
            model = one._whisper.model
            seen.append(one._ready().run(lambda model=model: model.align(model.encode(mel), tokens)))
        assert np.abs(seen[1] - seen[0]).max() <= tolerance * np.abs(seen[0]).max()


def test_it_says_what_onnx_says(starter):
    pytest.importorskip("espeakng_loader", reason="espeak is not installed")
    from llama_pajamas_run_core.text.word_errors import word_error_rate
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend
    from llama_pajamas_starter.speech.data import padded
    from llama_pajamas_starter.speech.evaluate import held_out

    spoken = held_out(50, seed=5)
    sounds = [Audio(padded(item.waveform(), 0.3, 0.3), 16_000) for item in spoken]
    rates = []
    with ONNXSTTBackend(starter) as plain, TensorRTSTTBackend(starter) as backend:
        for one in (plain, backend):
            heard = [one.transcribe(sound).text for sound in sounds]
            rates.append(word_error_rate(zip([item.text for item in spoken], heard, strict=True)))
        timed = [one.transcribe(sounds[0], word_times=True).words for one in (plain, backend)]
    assert abs(rates[1] - rates[0]) <= 0.002
    assert [word.text for word in timed[1]] == [word.text for word in timed[0]]
    assert [word.start for word in timed[1]] == pytest.approx([word.start for word in timed[0]], abs=0.05)


def test_windows_heard_together_are_heard_alike(tmp_path):
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend

    graphs = export(whisper_checkpoint.write(tmp_path / "checkpoint"), tmp_path / "onnx")
    pause = np.zeros(6 * 16_000, np.float32)
    long = Audio(np.concatenate([part for _ in range(5) for part in (babble(2.5).samples, pause)]), 16_000)
    with ONNXSTTBackend(graphs) as plain, TensorRTSTTBackend(graphs, windows=4) as backend:
        wanted, made = plain.transcribe(long), backend.transcribe(long)
        assert backend.details["graphs"] == "on"
        assert [(one.text, one.start, one.end) for one in made.segments] == [
            (one.text, one.start, one.end) for one in wanted.segments
        ]
        assert len(made.segments) == 10
        with pytest.raises(BadInput, match="temperature"):
            backend.transcribe(long, temperature=2.0)
        assert backend.transcribe(babble(2.5)).text == "Hello brave world. Goodbye."


def test_loading_and_closing_leaves_the_gpu_as_it_was(starter):
    import pycuda.driver as cuda

    from llama_pajamas_run_tensorrt._device import find_device
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend

    free = []
    for _ in range(10):
        with TensorRTSTTBackend(starter) as backend:
            backend.transcribe(babble(2.0))
        with find_device(None).current():
            free.append(cuda.mem_get_info()[0])
    assert free[1] - free[-1] < 16 << 20
