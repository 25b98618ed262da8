"""The command line, in the process, with the starter models."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from support import onnx_graphs

from llama_pajamas_run_core.artifacts.catalogue import Catalogue
from llama_pajamas_run_core.cli import app as cli
from llama_pajamas_run_core.codecs.audio import decode_audio
from llama_pajamas_run_core.codecs.image import decode_image, encode_image
from llama_pajamas_run_core.dsp.outlines import from_coco_rle
from llama_pajamas_run_core.errors import BadInput, UnknownModel
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.pool import ModelPool
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.testing.fakes import FAKE_RUNTIME
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import Image

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.run(arguments)
    return int(ended.value.code or 0)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in cli.COMMANDS)


def test_hardware_gives_a_reason_for_every_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hardware") == 0
    shown = capsys.readouterr().out
    assert "Selection matrix" in shown
    assert "chosen" in shown
    assert run("hardware", "--json") == 0
    assert json.loads(capsys.readouterr().out)["processor"]["threads"] >= 1


def test_chat_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("chat", "What is twenty-three plus nineteen?", "--temperature", "0") == 0
    assert capsys.readouterr().out == "Twenty-three plus nineteen is forty-two.\n"


def test_what_is_spoken_is_transcribed_and_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question, answer = tmp_path / "question.mp3", tmp_path / "answer.wav"
    assert run("speak", "What is seven times eight?", "-o", str(question)) == 0
    assert run("transcribe", str(question)) == 0
    assert capsys.readouterr().out.strip() == "What is seven times eight?"
    assert run("transcribe", str(question), "--format", "json", "--words") == 0
    words = json.loads(capsys.readouterr().out)["segments"][0]["words"]
    assert [word["word"] for word in words] == ["What", "is", "seven", "times", "eight?"]
    assert run("voice", str(question), "-o", str(answer)) == 0
    assert "replied Seven times eight is fifty-six." in capsys.readouterr().out
    assert decode_audio(answer.read_bytes()).duration > 1


def test_pictures_are_detected_and_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("detect", str(EXAMPLES / "scene.png"), "--json") == 0
    found = json.loads(capsys.readouterr().out)["detections"]
    assert {one["label"] for one in found} == {"boat", "house", "fish"}
    assert run("detect", str(EXAMPLES / "scene.png"), "--draw", str(tmp_path / "drawn")) == 0
    assert "house" in capsys.readouterr().out
    before, after = (decode_image((at / "scene.png").read_bytes()) for at in (EXAMPLES, tmp_path / "drawn"))
    changed = (before.pixels != after.pixels).any(axis=2)
    assert before.pixels.shape == after.pixels.shape
    assert 200 < np.count_nonzero(changed) < 0.1 * changed.size
    assert run("detect", str(EXAMPLES / "scene.png"), "--ask", "How many objects are there?") == 0
    assert capsys.readouterr().out == "There are three objects.\n"
    assert run("classify", str(EXAMPLES / "star.png"), "--top", "1") == 0
    assert "star" in capsys.readouterr().out


def test_masks_are_told_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    metadata = {"names": repr(dict(enumerate(onnx_graphs.COLOURS))), "task": "segment", "imgsz": "[64, 64]"}
    model = onnx_graphs.segmenter(tmp_path / "model.onnx", metadata=metadata)
    picture = Image(onnx_graphs.scene(bottom_right="green"))
    (tmp_path / "green.png").write_bytes(encode_image(picture))
    asked = ("detect", str(tmp_path / "green.png"), "--model", str(model), "--masks")
    assert run(*asked, "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)["detections"]
    assert one["label"] == "green"
    assert one["segmentation"]["size"] == [64, 64]
    assert one["area"] == from_coco_rle(one["segmentation"]).area == 28 * 28
    assert run(*asked, "--draw", str(tmp_path)) == 0
    assert "784 pixels" in capsys.readouterr().out
    tinted = decode_image((tmp_path / "green.png").read_bytes()).pixels
    assert (tinted[40, 40] != picture.pixels[40, 40]).any()
    assert (tinted[10, 10] == picture.pixels[10, 10]).all()
    assert run("detect", str(EXAMPLES / "scene.png"), "--masks", "--model", "starter-detect") == 1
    assert "does not segment" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("chat", "Hi", "--model", "gpt-9"), "starter-chat"),
        (("chat", "Hi", "--temperature", "9"), "temperature must be from 0"),
        (("transcribe", "nowhere.wav"), "nowhere.wav cannot be read"),
        (("speak", "Hi", "-o", "hello.xyz"), "mp3"),
        (("speak",), "nothing to say"),
        (("eval", "everything"), "starter"),
        (("models", "show", "nothing"), "does not exist"),
        (("chat", "Hi", "--runtime", "abacus"), "gguf"),
    ],
)
def test_mistakes_get_an_error_that_says_what_to_do(
    arguments: tuple[str, ...], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert shown in printed


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("serve", "--preload", "nothing"), "The model 'nothing' does not exist"),
        (("serve", "--memory", "0"), "above 0"),
        (("serve", "--runtime", "abacus"), "There is no runtime 'abacus'"),
        (("serve", "--api-key", ""), "API key is empty"),
        (("serve", "--port", "70000"), "0 to 65535"),
        (("serve", "--host", "0.0.0.0"), "--api-key"),
        (("detect", str(EXAMPLES / "scene.png"), "--ask", "What?", "--json"), "does not go with"),
        (("detect", "a/scene.png", "b/scene.png", "--draw", "out"), "same file"),
        (("export", "abacus"), "tensorrt"),
    ],
)
def test_options_that_cannot_be_are_told_at_once(
    arguments: tuple[str, ...], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 1
    printed = capsys.readouterr().err
    assert printed.splitlines()[-1].startswith("error: ")
    assert shown in printed


def test_serve_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[ModelPool, Settings]] = []
    monkeypatch.setattr(
        "llama_pajamas_run_core.cli.serve.run_server", lambda pool, how, ready: served.append((pool, how))
    )
    monkeypatch.setenv("LLAMA_PAJAMAS_API_KEYS", "one, two,")
    assert run("serve", "--memory", "1.5", "--keep-alive", "-1", "--allow-host", "My.Example", "--fetch-media") == 0
    ((pool, settings),) = served
    assert (pool._residents._limits.budget, pool._residents._keep_alive) == (3 * 2**29, None)
    assert settings.api_keys == ("one", "two")
    assert settings.hosts == {"my.example"}
    assert settings.fetch_media


def test_a_runtime_with_a_broken_command_is_listed_with_the_reason_and_harms_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtimes = [
        replace(FAKE_RUNTIME, name="absent", commands={"export": "no_such_package.export:export"}),
        replace(FAKE_RUNTIME, name="other", commands={"verify": "no_such_package:verify"}),
        replace(FAKE_RUNTIME, name="unnamed", commands={"export": f"{__name__}:no_such_function"}),
        replace(FAKE_RUNTIME, name="whole", commands={"export": f"{__name__}:exporting"}),
    ]
    monkeypatch.setattr("llama_pajamas_run_core.cli.verbs.discover", lambda: runtimes)
    monkeypatch.setenv("COLUMNS", "150")
    assert run("export", "whole", "model", "--bits", "4") == 0
    assert capsys.readouterr().out == "model 4\n"
    assert run("export", "--help") == 0
    shown = capsys.readouterr().out
    assert "Write it down." in shown
    assert "'absent' cannot be used here: No module named 'no_such_package'" in shown
    assert "other" not in shown
    for name, reason in (("absent", "No module named 'no_such_package'"), ("unnamed", "no_such_function")):
        for arguments in ((), ("model", "--bits", "4")):
            assert run("export", name, *arguments) == 1
            assert reason in capsys.readouterr().err
    assert run("export", "other") == 1
    assert "There are: absent, unnamed, whole." in capsys.readouterr().err


def exporting(model: str, bits: int = 8) -> None:
    """Write it down."""
    typer.echo(f"{model} {bits}")


def test_models_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "list") == 0
    assert "starter-chat" in capsys.readouterr().out
    assert run("models", "show", "starter-speech") == 0
    assert "ggml-whisper" in capsys.readouterr().out


def test_a_machine_finds_models_by_id_alias_path_and_ability(tmp_path: Path) -> None:
    machine = Machine(Catalogue())
    assert machine.find(None, Task.LLM).id == "starter-chat"
    assert machine.find(None, Task.VISION, "classify").id == "starter-classify"
    assert machine.find("whisper-1", Task.STT).id == "starter-speech"
    path = machine.find("starter-chat", Task.LLM).artifact("gguf").materialize()
    assert machine.find(path, Task.LLM).formats == {"gguf"}
    with pytest.raises(BadInput, match="not for speech to text"):
        machine.find("starter-chat", Task.STT)
    with pytest.raises(UnknownModel):
        machine.find(str(tmp_path / "missing.gguf"), Task.LLM)


def test_half_a_model_is_an_error_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Machine().find("starter-chat", Task.LLM).artifact("gguf").materialize().read_bytes()
    half = tmp_path / "half.gguf"
    half.write_bytes(whole[: len(whole) // 2])
    assert run("chat", "Hi", "--model", str(half)) == 1
    printed = capsys.readouterr().err
    assert "half.gguf" in printed
    assert "bytes" in printed


def test_a_row_knows_whether_its_floor_is_reached() -> None:
    assert Row("m", "exact", 0.96, 0.95, 10, 1.0).reached
    assert not Row("m", "WER", 0.06, 0.05, 10, 1.0, better="lower").reached
    assert Row("m", "speed", 3.0, None, 1, 1.0, unit="s").shown == "3 s"
    assert Row("m", "WER", 0.06, 0.05, 10, 1.0, better="lower").floor_shown == "at most 5.0%"
    assert np.isclose(Row("m", "exact", 0.96, 0.95, 10, 1.0).value, 0.96)
