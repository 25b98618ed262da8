"""Models on the CPU beside the GPU: fakes for both, the reasons for what is missing, and the commands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llama_pajamas_run_core.artifacts.catalogue import Catalogue
from llama_pajamas_run_core.bench import gpu, models
from llama_pajamas_run_core.bench.figures import Figure, Line
from llama_pajamas_run_core.cli import app as cli
from llama_pajamas_run_core.codecs.audio import encode_audio
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.runtimes.info import RuntimeState
from llama_pajamas_run_core.testing.fakes import FAKE_RUNTIME, fake_catalogue

INPUTS = models.Inputs(models.drawn_images(8), models.humming(1.0), "a made-up sound")


def machine(tmp_path: Path, *names: str) -> Machine:
    made = Machine(fake_catalogue(tmp_path))
    made.runtimes = tuple(RuntimeState(replace(FAKE_RUNTIME, name=name, title=name)) for name in names)
    return made


@pytest.mark.parametrize("subject", models.SUBJECTS, ids=lambda subject: subject.name)
def test_both_sides_are_measured_with_their_own_runtime(tmp_path, subject):
    lines = models.model_lines(
        machine(tmp_path, "anycpu", "tensorrt"), replace(subject, batches=subject.batches[:2]), INPUTS, seconds=0.01
    )
    assert len(lines) == max(len(subject.batches[:2]), 1)
    for line in lines:
        assert isinstance(line.cpu, Figure), line.cpu
        assert isinstance(line.gpu, Figure), line.gpu
        assert line.cpu.unit == ("images/s" if subject.ability else "s of audio/s")
        assert line.gpu.note.startswith("fake")


def test_what_is_not_there_is_shown_with_the_reason(tmp_path):
    (line, *_) = models.model_lines(machine(tmp_path, "anycpu"), models.SUBJECTS[0], INPUTS, seconds=0.01)
    assert isinstance(line.cpu, Figure)
    assert line.gpu == "tensorrt: the package llama-pajamas-run-tensorrt is not installed"
    (line, *_) = models.model_lines(machine(tmp_path / "2", "tensorrt"), models.SUBJECTS[0], INPUTS, seconds=0.01)
    assert "onnx: the package llama-pajamas-run-onnx is not installed" in line.cpu
    assert isinstance(line.gpu, Figure)


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(BadInput, match="There are: product, copies, detect, classify, speech"):
        next(gpu.measure(machine(tmp_path, "anycpu"), only=["speed"]))
    with pytest.raises(BadInput, match="There are: detect, classify, speech"):
        next(gpu.measure(machine(tmp_path / "2", "anycpu"), engines={"product": Path("x")}))
    with pytest.raises(BadInput, match="WHAT=MODEL"):
        gpu.pairs(["detect"])
    assert gpu.pairs(["detect=a=b.onnx"]) == {"detect": "a=b.onnx"}


def test_audio_from_a_file(tmp_path):
    spoken = models.humming(0.5)
    path = tmp_path / "x.wav"
    path.write_bytes(encode_audio(spoken, "wav"))
    read = models.read_wav(path)
    assert (read.rate, len(read.samples)) == (16_000, 8_000)
    np.testing.assert_allclose(read.samples, spoken.samples, atol=1e-4)
    path.write_bytes(b"RIFF")
    for wrong in (path, tmp_path / "missing.wav"):
        with pytest.raises(BadInput, match="no WAV file"):
            models.read_wav(wrong)


def test_the_command_shows_both_columns_and_writes_the_record(tmp_path, capsys, monkeypatch):
    lines = [
        Line("a", Figure(8.0, 7.0, 9.0, 3, "ms"), Figure(2.0, 1.0, 3.0, 3, "ms"), 5.0, "lower"),
        Line("b", "x", "y"),
    ]
    monkeypatch.setattr("llama_pajamas_run_core.cli.bench.measure", lambda *_, **__: iter(lines))
    path = tmp_path / "record.json"
    with pytest.raises(SystemExit) as ended:
        cli.run(["bench", "gpu", "--json", str(path)])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "4 x" in shown
    assert "No CPU figure for b: x" in shown
    record = json.loads(path.read_text())
    assert record["lines"][0]["reached"] is True
    assert record["lines"][0]["gpu"]["median"] == 2.0
    assert record["lines"][1]["gpu"] == {"reason": "y"}
    assert record["hardware"]["processor"]["threads"] >= 1
    assert set(record) == {"benchmark", "date", "command", "hardware", "versions", "lines"}
    lines[0] = replace(lines[0], floor=1.0)
    with pytest.raises(SystemExit) as ended:
        cli.run(["bench", "gpu"])
    assert ended.value.code == 1
    assert "not reached" in capsys.readouterr().out


def test_without_the_command_line_and_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "Machine", lambda: Machine(Catalogue()))
    fewer = tuple(replace(subject, batches=subject.batches[:2]) for subject in gpu.SUBJECTS)
    monkeypatch.setattr(gpu, "SUBJECTS", fewer)
    path, written = tmp_path / "record.json", []
    assert gpu.main(["--json", str(path), "--only", "classify", "--seconds", "0.01"], written.append) == 0
    record = json.loads(path.read_text())
    assert [line["what"] for line in record["lines"]] == ["classify, batch 1", "classify, batch 8"]
    assert all(line["cpu"]["unit"] == "images/s" for line in record["lines"])
    assert len(written) == 2
    assert gpu.main(["--only", "nothing"], written.append) == 1
    assert written[-1].startswith("error: There is nothing called 'nothing'")


def test_a_record_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "measure", lambda *_, **__: iter(()))
    nowhere, written = str(tmp_path / "no" / "record.json"), []
    assert gpu.main(["--json", nowhere], written.append) == 1
    assert written == [f"error: {nowhere} cannot be written: No such file or directory.\n"]
