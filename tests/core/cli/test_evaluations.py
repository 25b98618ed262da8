"""``llama-pajamas eval`` with an evaluation of one's own: its options, its rows, its record."""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated

import pytest

from llama_pajamas_run_core.cli import app as cli
from llama_pajamas_run_core.cli import evaluate as module
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine


def counting(
    machine: Machine,
    *,
    prompts: Annotated[int, "How many prompts."] = 500,
    merge: Annotated[list[Path] | None, "Records."] = None,
) -> Iterator[Row]:
    """Count things."""
    assert isinstance(machine, Machine)
    yield Row("m", "prompts", prompts / 1000, 0.1, prompts, 1.0, subject="X, F16", note=f"merged {merge}")
    yield Row("m", "prompts", None, 0.1, 0, 0.0, subject="Y", note="no GPU here")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    point = EntryPoint("counting", f"{__name__}:counting", module.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: counting)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    monkeypatch.setenv("COLUMNS", "150")

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            cli.run(["eval", *arguments])
        return int(ended.value.code or 0)

    return run


def test_arguments_are_options(run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("counting", "--help") == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("Count things.", "--prompts", "How many", "500", "--merge", "--json"))
    record = tmp_path / "record.json"
    assert run("counting", "--prompts", "120", "--merge", "a.json", "--merge", "b.json", "--json", str(record)) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("X, F16", "12.0%", "not run", "no GPU here", "b.json"))
    written = json.loads(record.read_text())
    assert written["evaluation"] == "counting"
    assert written["machine"]["cores"] >= 1
    assert str(tmp_path) not in record.read_text()
    assert [(row["subject"], row["value"], row["cases"]) for row in written["rows"]] == [
        ("X, F16", 0.12, 120),
        ("Y", None, 0),
    ]


def test_a_floor_that_is_not_reached_fails(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("counting", "--prompts", "50") == 1
    assert "(not reached)" in capsys.readouterr().out


def test_a_record_that_cannot_be_written_is_an_error_that_names_it(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("counting", "--json", str(tmp_path / "nowhere" / "record.json")) == 1
    assert "record.json cannot be written" in capsys.readouterr().err


def test_a_broken_one_is_listed_with_the_reason_and_harms_no_other(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [EntryPoint(name, f"{__name__}:{name}", module.GROUP) for name in ("broken", "counting")]

    def load(point: EntryPoint) -> object:
        if point.name == "broken":
            raise ModuleNotFoundError("No module named 'its_library'")
        return counting

    monkeypatch.setattr(EntryPoint, "load", load)
    monkeypatch.setattr(module, "entry_points", lambda group: points)
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "Count things." in shown
    assert "No module named 'its_library'" in shown
    assert run("broken", "--prompts", "5") == 1
    assert capsys.readouterr().err == "error: 'broken' cannot be used here: No module named 'its_library'.\n"
    assert run("counting") == 0


def test_unknown_ones_are_named(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dancing") == 1
    assert capsys.readouterr().err == "error: There is no evaluation 'dancing'. There are: counting.\n"
    assert run("--help") == 0
    assert "Count things." in capsys.readouterr().out
