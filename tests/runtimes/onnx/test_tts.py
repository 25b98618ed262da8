"""Neural voices in ONNX: the contract on hand-made Piper and Kokoro voices, and what is each family's own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("piper")
pytest.importorskip("kokoro_onnx")

from support import onnx_voices

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.testing.tts import TTSContract
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_onnx.tts import ONNXTTSBackend


def _pitch(sound: Audio) -> float:
    """The strongest frequency, in hertz."""
    spectrum = np.abs(np.fft.rfft(sound.samples * np.hanning(len(sound.samples))))
    return float(spectrum.argmax() * sound.rate / len(sound.samples))


class TestPiper(TTSContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXTTSBackend]:
        voice = onnx_voices.piper(tmp_path_factory.mktemp("piper") / "en_US-tone-medium.onnx")
        return lambda: ONNXTTSBackend(voice)


class TestKokoro(TTSContract):
    # Both ends of a sentence are trimmed of silence, of which a tone has none to give at any pace but a little.
    speed_error = 0.12

    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ONNXTTSBackend]:
        folder = onnx_voices.kokoro(tmp_path_factory.mktemp("kokoro"))
        return lambda: ONNXTTSBackend(folder)


def test_a_piper_voice_says_who_it_is(tmp_path: Path) -> None:
    voice = onnx_voices.piper(tmp_path / "de_DE-tone-low.onnx", rate=16_000, language="de_DE")
    with ONNXTTSBackend(voice) as backend:
        assert backend.rate == 16_000
        assert [(one.id, one.languages) for one in backend.voices] == [("de_DE-tone-low", ("de-DE",))]
        assert backend.details == {"family": "Piper", "device": "cpu", "rate": 16_000, "voices": 1}


def test_speakers_of_one_voice_are_voices(tmp_path: Path) -> None:
    voice = onnx_voices.piper(tmp_path / "en_US-many-medium.onnx", speakers=("anna", "ben"))
    with ONNXTTSBackend(voice) as backend:
        assert [one.id for one in backend.voices] == ["en_US-many-medium:anna", "en_US-many-medium:ben"]
        pitches = [_pitch(backend.speak("Good morning to you.", voice=one.id)) for one in backend.voices]
        assert pitches == pytest.approx([200, 300], rel=0.03)


def test_a_folder_of_piper_voices_is_one_model(tmp_path: Path) -> None:
    onnx_voices.piper(tmp_path / "de_DE-a-low.onnx", rate=16_000, hertz=150.0, language="de")
    onnx_voices.piper(tmp_path / "en_US-b-high.onnx", rate=22_050, hertz=250.0)
    with ONNXTTSBackend(tmp_path) as backend:
        assert [one.id for one in backend.voices] == ["de_DE-a-low", "en_US-b-high"]
        low, high = (backend.speak("Good morning to you.", voice=one.id) for one in backend.voices)
        assert low.rate == high.rate == 22_050
        assert [_pitch(low), _pitch(high)] == pytest.approx([150, 250], rel=0.03)


def test_sentences_come_one_by_one(tmp_path: Path) -> None:
    with ONNXTTSBackend(onnx_voices.piper(tmp_path / "voice.onnx")) as backend:
        pieces = list(backend.stream("This is one sentence here. This is another one. And this is the last of them."))
    assert len(pieces) >= 2


def test_brackets_are_not_phonemes(tmp_path: Path) -> None:
    with ONNXTTSBackend(onnx_voices.piper(tmp_path / "voice.onnx")) as backend:
        assert len(backend.speak("[[ bˈætmæn ]] is here").samples) == len(
            backend.speak("[ [ bˈætmæn ]] is here").samples
        )


def test_kokoro_voices_tell_language_and_gender(tmp_path: Path) -> None:
    with ONNXTTSBackend(onnx_voices.kokoro(tmp_path)) as backend:
        voices = {one.id: one for one in backend.voices}
        assert backend.voices[0].id == "af_heart"
        assert (voices["bf_emma"].languages, voices["bf_emma"].gender) == (("en-GB",), "female")
        assert (voices["am_onyx"].languages, voices["am_onyx"].gender) == (("en-US",), "male")
        assert backend.find_voice("alloy").id == "af_alloy"
        assert backend.find_voice("Onyx").id == "am_onyx"
        assert backend.find_voice("echo").id == "am_onyx"
        assert _pitch(backend.speak("Good morning.", voice="bf_emma")) == pytest.approx(240, rel=0.03)
        french = backend.speak("Bonjour, comment allez-vous ?", voice="ff_siwis")
        english = backend.speak("Bonjour, comment allez-vous ?", voice="ff_siwis", language="en")
        assert len(french.samples) != len(english.samples)
        with pytest.raises(BadInput, match="klingon"):
            backend.speak("Hello there.", language="klingon")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no-such"):
        ONNXTTSBackend(tmp_path / "no-such.onnx")
    with pytest.raises(BadInput, match=r"no \.onnx"):
        ONNXTTSBackend(tmp_path)
    voice = onnx_voices.piper(tmp_path / "voice.onnx")
    (tmp_path / "voice.onnx.json").unlink()
    with pytest.raises(BadInput, match=r"voice\.onnx\.json"):
        ONNXTTSBackend(voice)
    with pytest.raises(BadInput, match="colour"):
        ONNXTTSBackend(voice, colour="red")


@pytest.mark.parametrize(
    ("config", "message"),
    [("{", "no JSON"), ("[]", "no JSON object"), ("{}", "num_symbols"), ('{"audio": 3}', "Piper")],
)
def test_a_broken_configuration(tmp_path: Path, config: str, message: str) -> None:
    voice = onnx_voices.piper(tmp_path / "voice.onnx")
    (tmp_path / "voice.onnx.json").write_text(config)
    with pytest.raises(LoadError, match=message):
        ONNXTTSBackend(voice)


def test_a_senseless_configuration(tmp_path: Path) -> None:
    voice = onnx_voices.piper(tmp_path / "voice.onnx")
    path = tmp_path / "voice.onnx.json"
    config = json.loads(path.read_text())
    config["audio"]["sample_rate"] = 0
    path.write_text(json.dumps(config))
    with pytest.raises(LoadError, match="positive"):
        ONNXTTSBackend(voice)


def test_graphs_that_are_no_voices(tmp_path: Path) -> None:
    folder = onnx_voices.kokoro(tmp_path)
    onnx_voices.piper(tmp_path / "voice.onnx")
    (folder / "kokoro.onnx").rename(folder / "voice.onnx")
    with pytest.raises(LoadError, match="no Piper voice"):
        ONNXTTSBackend(folder)
    onnx_voices.piper(tmp_path / "voice.onnx")
    (tmp_path / "voice.onnx.json").unlink()
    with pytest.raises(LoadError, match="no Kokoro model"):
        ONNXTTSBackend(folder)


def test_broken_files_of_voices(tmp_path: Path) -> None:
    folder = onnx_voices.kokoro(tmp_path)
    voices = folder / "voices-v1.0.bin"
    whole = voices.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:5000] + bytes(200_000) + whole[205_000:]):
        voices.write_bytes(content)
        with pytest.raises(LoadError, match=r"voices-v1\.0\.bin"):
            ONNXTTSBackend(folder)


def test_a_broken_graph(tmp_path: Path) -> None:
    folder = onnx_voices.kokoro(tmp_path)
    graph = folder / "kokoro.onnx"
    graph.write_bytes(graph.read_bytes()[:200])
    with pytest.raises(LoadError, match=r"kokoro\.onnx"):
        ONNXTTSBackend(folder)


def test_several_kokoro_graphs_need_a_choice(tmp_path: Path) -> None:
    folder = onnx_voices.kokoro(tmp_path)
    (folder / "kokoro.int8.onnx").write_bytes((folder / "kokoro.onnx").read_bytes())
    with pytest.raises(BadInput, match=r"kokoro\.int8\.onnx"):
        ONNXTTSBackend(folder)
    with ONNXTTSBackend(folder / "kokoro.onnx") as backend:
        assert backend.details["family"] == "Kokoro"


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for model in (onnx_voices.kokoro(tmp_path / "k"), onnx_voices.piper(tmp_path / "p" / "voice.onnx")):
        with ONNXTTSBackend(model) as backend:
            backend.speak("Hello \U0001f600 world, 你好.", speed=3.0)
    assert capfd.readouterr() == ("", "")
