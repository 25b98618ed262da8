"""The README's table of fidelity says what the newest record says, and the record is whole."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from llama_pajamas_run_core.evaluation import Row

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from fidelity_table import BLOCK, newest, rewritten, table  # noqa: E402  # a script beside the packages


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    path = newest()
    assert path is not None
    return [Row(**row) for row in json.loads(path.read_text("utf-8"))["rows"]]


def test_the_readme_shows_the_record() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    if not BLOCK.search(text):
        pytest.skip("the README has no place for the table yet")
    assert rewritten(text) == text


def test_the_record_has_every_model_and_a_reason_for_every_gap(rows: list[Row]) -> None:
    assert {row.model for row in rows} == {
        "starter-chat", "starter-speech", "starter-detect", "starter-classify", "starter-embed",
    }  # fmt: skip
    assert all(row.reached for row in rows)
    assert all(row.note for row in rows if row.value is None)
    chat = {row.subject: row for row in rows if row.model == "starter-chat"}
    for name in ("llama.cpp, F16", "MLX, FP32", "MLX, FP16"):
        assert chat[name].cases == 500
        assert chat[name].value is not None


def test_a_gap_is_shown_with_its_reason() -> None:
    rows = [
        Row("m", "WER", 0.01, None, 9, 1.0, subject="A", note="x"),
        Row("m", "WER", None, None, 0, 0.0, subject="B", note="no GPU"),
    ]
    record = {
        "command": "llama-pajamas eval fidelity",
        "date": "2026-11-21T00:00:00+00:00",
        "machine": {"processor": "CPU", "cores": 2},
        "rows": [asdict(row) for row in rows],
    }
    assert table(record).splitlines()[-2:] == ["| **m**: WER | A | 1.0% | 9 | x |", "|  | B | not run |  | no GPU |"]
