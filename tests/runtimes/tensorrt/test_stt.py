"""Whisper as TensorRT engines, in the flavour of each version: ONNX Runtime computes the graphs they are built of."""

import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import tensorrt_stand_in, whisper_checkpoint

from llama_pajamas_run_core.artifacts.formats import TENSORRT_WHISPER, identify
from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.testing.stt import STTContract, babble
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_onnx.export import export
from llama_pajamas_run_onnx.stt import ONNXSTTBackend


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("english")
    return export(whisper_checkpoint.write(folder / "checkpoint"), folder / "onnx")


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("german")
    checkpoint = whisper_checkpoint.write(folder / "checkpoint", whisper_checkpoint.GERMAN, language=2)
    return export(checkpoint, folder / "onnx")


@pytest.fixture
def backend(stand_in):
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend

    return TensorRTSTTBackend


class TestContract(STTContract):
    """The standard suite, in the flavour of TensorRT 8.6."""

    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, german: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], object]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path_factory.mktemp("home")))
            tensorrt_stand_in.install("8.6", patch, tmp_path_factory.mktemp("sdk"))
            from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend

            yield lambda: TensorRTSTTBackend(german, windows=3)

    @pytest.fixture(autouse=True)
    def _own_cache(self) -> None:
        """The class has a cache of its own."""


def long_sound() -> Audio:
    pause = np.zeros(6 * 16_000, np.float32)
    return Audio(np.concatenate([part for _ in range(5) for part in (babble(2.5).samples, pause)]), 16_000)


def test_engines_of_graphs_say_what_the_graphs_say(backend, english: Path) -> None:
    with ONNXSTTBackend(english) as plain, backend(english, windows=2) as model:
        assert model.details["windows"] == 2
        assert model.details["precision"] == "fp16"
        wanted = plain.transcribe(long_sound(), word_times=True)
        made = model.transcribe(long_sound(), word_times=True)
        assert 0 < model.host_memory < 64 << 20
    assert model.host_memory is None
    assert len(wanted.segments) == 10
    assert [(one.text, one.start, one.end) for one in made.segments] == [
        (one.text, one.start, one.end) for one in wanted.segments
    ]
    times = [[(word.text, round(word.start, 2), round(word.end, 2)) for word in one.words] for one in (made, wanted)]
    assert times[0] == times[1]


def test_the_cache_stays_on_the_gpu(backend, stand_in, english: Path, monkeypatch) -> None:
    """What goes over the bus in a step: the token, its place, and the logits."""
    with backend(english, windows=1, graphs=False) as model:  # a graph does the same, unseen
        model.transcribe(babble(2.5))
        up, down = [], []
        cuda = stand_in.cuda
        to, back = cuda.memcpy_htod_async, cuda.memcpy_dtoh_async

        def upload(dest, src, stream):
            up.append(src.nbytes)
            to(dest, src, stream)

        def download(dest, src, stream):
            down.append(dest.nbytes)
            back(dest, src, stream)

        monkeypatch.setattr(cuda, "memcpy_htod_async", upload)
        monkeypatch.setattr(cuda, "memcpy_dtoh_async", download)
        made = model.transcribe(babble(2.5))
    assert made.text == "Hello brave world. Goodbye."
    assert max(down) == 51_864 * 4  # the logits of one token
    assert up[0] == 80 * 3000 * 4  # the spectrogram
    assert max(up[1:]) == 448 * 4  # one row of the mask
    assert len(down) == sum(one == 448 * 4 for one in up[1:]) / 2


def test_steps_are_graphs_and_the_model_leaves_nothing_behind(backend, stand_in, english: Path) -> None:
    with backend(english, windows=2) as model:
        model.transcribe(babble(2.5), word_times=True)
        before = stand_in.cuda.state.allocated
        for _ in range(3):
            model.transcribe(babble(2.5), word_times=True)
        assert model.details["graphs"] == "on"
        assert stand_in.driver.graphs >= 2
        assert stand_in.cuda.state.allocated == before
        # Both engines count, with their files' size for what is in them.
        files = sum(one.file.size for one in (model._whisper.model._encoder, model._whisper.model._decoder))
        assert model.details["memory"] == before + files
    assert stand_in.cuda.state.allocated == 0
    assert stand_in.driver.graphs == 0


def test_the_language_is_detected(backend, german: Path) -> None:
    with backend(german) as model:
        assert model.details["windows"] == 8
        made = model.transcribe(babble(2.0))
        assert (made.language, made.text) == ("de", "Grüße.")


def test_a_folder_of_engines(backend, english: Path, tmp_path: Path) -> None:
    from llama_pajamas_run_tensorrt.export.make import export_model
    from llama_pajamas_run_tensorrt.export.options import BuildOptions

    options = BuildOptions(precision="fp32", batch=(1, 2, 4), dims={"frames": (512, 3000, 3000)} | {
        "positions": (256, 1500, 1500)})  # fmt: skip
    exported = export_model(english, tmp_path / "engines", options)
    assert [one.engine.name for one in exported.made] == ["decoder.engine", "encoder.engine"]
    assert {one.record.task for one in exported.made} == {"stt"}
    assert all(one.change is not None and one.change.loss < 0.01 for one in exported.made)
    folder = tmp_path / "engines"
    assert identify(folder) is TENSORRT_WHISPER
    with backend(folder, short_context=True) as model:
        assert model.details["windows"] == 4
        assert model.transcribe(babble(2.5)).text == "Hello brave world. Goodbye."
    with pytest.raises(BadInput, match="built"):
        backend(folder, windows=2)
    (folder / "decoder.engine").unlink()
    with pytest.raises(BadInput, match=r"decoder\.engine"):
        backend(folder)


def test_int8_is_not_for_speech(stand_in, english: Path, tmp_path: Path) -> None:
    from llama_pajamas_run_tensorrt.export.make import export_model
    from llama_pajamas_run_tensorrt.export.options import BuildOptions

    with pytest.raises(Unsupported, match="FP16"):
        export_model(english, tmp_path / "engines", BuildOptions(precision="int8"))


def write_wav(path: Path, sound: Audio, *, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(sound.rate)
        file.writeframes(sound.to_pcm16())


def test_the_words_that_engines_change_are_measured(stand_in, english: Path, tmp_path: Path, monkeypatch) -> None:
    from llama_pajamas_run_tensorrt.engine_file import EngineRecord
    from llama_pajamas_run_tensorrt.export import spoken
    from llama_pajamas_run_tensorrt.export.make import export_model
    from llama_pajamas_run_tensorrt.export.options import BuildOptions

    recordings, output = tmp_path / "recordings", tmp_path / "engines"
    recordings.mkdir()
    write_wav(recordings / "one.wav", babble(2.5))
    write_wav(recordings / "two.wav", babble(1.5))
    exported = export_model(english, output, BuildOptions(), speech=recordings)
    for one in exported.made:
        assert (one.change.figure, one.change.loss, one.change.cases) == ("WER", 0.0, 2)
        assert EngineRecord.read(one.engine).accuracy["figure"] == "WER"
    assert [line for line in exported.lines() if "WER 0.00 %" in line]

    # What hears something else is refused, and what was there stays as it was.
    def files() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in output.iterdir()}

    before = files()
    monkeypatch.setattr(spoken._Engines, "transcribe", lambda self, audio: SimpleNamespace(text="Hello grave world."))
    with pytest.raises(Unsupported, match="engines loses .* points of WER against FP32, more than the limit of 0.2"):
        export_model(english, output, BuildOptions(), speech=recordings)
    assert files() == before
    kept = export_model(english, output, BuildOptions(), speech=recordings, force=True)
    assert kept.made[0].change.loss > 10
    assert files().keys() == before.keys()


def test_recordings_that_are_of_no_use_are_named(stand_in, english: Path, tmp_path: Path) -> None:
    from llama_pajamas_run_tensorrt.export.make import export_model
    from llama_pajamas_run_tensorrt.export.options import BuildOptions
    from llama_pajamas_run_tensorrt.export.recordings import read_recordings

    with pytest.raises(BadInput, match="There is no folder"):
        read_recordings(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds no recordings"):
        read_recordings(tmp_path)
    write_wav(tmp_path / "deep.wav", babble(0.5), width=4)
    with pytest.raises(LoadError, match="32 bits.*16 bits"):
        read_recordings(tmp_path)
    (tmp_path / "deep.wav").write_bytes(b"RIFF of no kind")
    with pytest.raises(LoadError, match=r"deep\.wav cannot be read"):
        read_recordings(tmp_path)
    with pytest.raises(BadInput, match="is no speech model"):
        export_model(english / "encoder.onnx", tmp_path / "one.engine", BuildOptions(), speech=[babble(0.5)])


def test_engines_of_another_model_are_named(backend, english: Path, german: Path, tmp_path: Path) -> None:
    from llama_pajamas_run_tensorrt.whisper_engines import find_engines

    (tmp_path / "config.json").write_bytes((english / "config.json").read_bytes().replace(b'_layer": 3', b'_layer": 2'))
    for engine in find_engines(english)[:2]:
        name = engine.name.partition("-")[0]
        (tmp_path / f"{name}.engine").write_bytes(engine.read_bytes())
        (tmp_path / f"{name}.engine.json").write_bytes(engine.with_name(f"{engine.name}.json").read_bytes())
    with pytest.raises(LoadError, match="does not hold the engines"):
        backend(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"), [({"windows": 0}, "windows"), ({"precision": "fp8"}, "fp8"), ({"beam_size": 2}, "beam_size")]
)
def test_senseless_options_are_refused(backend, english: Path, options: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        backend(english, **options)


def test_folders_without_a_model_are_named(backend, english: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no folder"):
        backend(tmp_path / "absent")
    with pytest.raises(LoadError, match=r"config\.json"):
        backend(tmp_path)
    (tmp_path / "config.json").write_bytes((english / "config.json").read_bytes())
    (tmp_path / "encoder.onnx").write_bytes((english / "encoder.onnx").read_bytes())
    with pytest.raises(BadInput, match=r"decoder\.onnx"):
        backend(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stand_in", ["8.6"], indirect=True)
def test_the_starter_hears_what_it_hears_in_onnx(backend, stand_in, tmp_path: Path) -> None:
    pytest.importorskip("llama_pajamas_starter", reason="the starter models are not installed")
    pytest.importorskip("espeakng_loader", reason="espeak is not installed")
    from llama_pajamas_starter.speech import hugging_face
    from llama_pajamas_starter.speech.checkpoint import Checkpoint
    from llama_pajamas_starter.speech.evaluate import held_out

    folder = export(hugging_face.write(tmp_path / "checkpoint", Checkpoint.load()), tmp_path / "onnx")
    sounds = [Audio(item.waveform(), 16_000) for item in held_out(2, seed=2)]
    with ONNXSTTBackend(folder) as plain, backend(folder, windows=2) as model:
        for sound in sounds:
            wanted, made = (one.transcribe(sound, word_times=True) for one in (plain, model))
            assert made.text == wanted.text
            assert [word.start for word in made.words] == pytest.approx(
                [word.start for word in wanted.words], abs=0.021
            )
