"""Quantized exports of the starter chat model: smaller, loaded by the backend, and as good as the bits allow."""

from pathlib import Path

import pytest

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed", exc_type=ImportError)

from llama_pajamas_run_core.artifacts.formats import MLX, identify
from llama_pajamas_run_core.cli.app import run
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_mlx import export as module
from llama_pajamas_run_mlx.export import export
from llama_pajamas_run_mlx.llm import MLXLLMBackend

#: MLX's kernels for quantized matrices are slow on CPUs.
SHORT = {"group_size": 32, "texts": ["Turn the lamp on."]}


def test_fewer_bits_are_smaller_and_worse(starter_chat: Path, tmp_path: Path) -> None:
    reports = {bits: export(starter_chat, tmp_path / bits, bits=bits, **SHORT) for bits in ("2", "8")}
    sizes = [reports[bits].bytes_after for bits in ("2", "8")]
    assert sizes == sorted(sizes)
    assert sizes[-1] < reports["8"].bytes_before
    assert reports["2"].divergence > reports["8"].divergence
    assert reports["8"].agreement > 0.97
    assert reports["8"].divergence < 0.01
    assert identify(tmp_path / "8") is MLX
    with MLXLLMBackend(tmp_path / "8") as small, MLXLLMBackend(starter_chat) as whole:
        assert small.details["bits"] == 8
        asked = {"temperature": 0.0, "max_tokens": 8}
        assert small.chat("Hello!", **asked).text == whole.chat("Hello!", **asked).text


def test_mixed_bits_lie_between(starter_chat: Path, tmp_path: Path) -> None:
    mixed = export(starter_chat, tmp_path / "mixed", bits="mixed_3_6", **SHORT)
    three, six = (export(starter_chat, tmp_path / bits, bits=bits, **SHORT) for bits in ("3", "6"))
    assert three.bytes_after < mixed.bytes_after < six.bytes_after
    with MLXLLMBackend(tmp_path / "mixed") as backend:
        assert backend.chat("Hello!", max_tokens=4).usage.completion_tokens


def test_the_command_says_what_it_cost(starter_chat, tmp_path, capsys) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Turn the lamp on.\n")
    asked = ["export", "mlx", str(starter_chat), str(tmp_path / "small"), "--bits", "6", "--group-size", "32"]
    with pytest.raises(SystemExit) as ended:
        run([*asked, "--text", str(text)])
    assert not ended.value.code
    assert "MB" in (said := capsys.readouterr().out)
    assert "nats" in said
    with pytest.raises(SystemExit) as ended:
        run(asked)
    assert ended.value.code == 1
    assert "exists" in capsys.readouterr().err
    text.write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit):
        run([*asked[:3], str(tmp_path / "other"), "--text", str(text)])
    assert "could not be read as text" in capsys.readouterr().err


def test_what_cannot_be_exported_is_refused(starter_chat: Path, tmp_path: Path) -> None:
    for options in ({"bits": 5}, {"group_size": 7}, {"texts": []}, {"texts": ["a", ""]}):
        with pytest.raises(BadInput) as raised:
            export(starter_chat, tmp_path / "target", **options)
        assert raised.value.param == next(iter(options))
    with pytest.raises(LoadError, match="nothing-here"):
        export(tmp_path / "nothing-here", tmp_path / "target")
    export(starter_chat, tmp_path / "once", bits=8, **SHORT)
    with pytest.raises(BadInput, match="already"):
        export(tmp_path / "once", tmp_path / "twice", bits=4)
    with pytest.raises(BadInput, match="holds what it is to be made from"):
        export(tmp_path / "once", tmp_path / "once", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once"]


def test_a_target_may_be_replaced_and_is_for_all_to_read(starter_chat, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_PLACES", 5)
    target = tmp_path / "small"
    target.mkdir()
    (target / "old").touch()
    before = target.stat().st_mode
    report = export(starter_chat, target, bits=8, group_size=32, texts=["one two three"] * 9, overwrite=True)
    assert report.places == 5
    assert not (target / "old").exists()
    assert target.stat().st_mode == before
