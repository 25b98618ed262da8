"""The README's table of fidelity says what the records say, and the records are whole."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from llama_pajamas_run_core.evaluation import Row

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from fidelity_table import BLOCK, MODELS, figures, records, rewritten, table  # noqa: E402  # a script beside the packages


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [one.row for one in figures(records())]


def test_the_readme_shows_the_records() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert BLOCK.search(text)
    assert rewritten(text) == text


def test_the_records_have_every_model_and_a_reason_for_every_gap(rows: list[Row]) -> None:
    assert {row.model for row in rows} == set(MODELS)
    assert all(row.reached for row in rows)
    assert all(row.note for row in rows if row.value is None)
    chat = {row.subject: row for row in rows if row.model == "starter-chat"}
    for name in ("llama.cpp, F16", "MLX, FP32", "MLX, FP16"):
        assert chat[name].cases == 500
        assert chat[name].value is not None


def record(date: str, gpus: list[str], *rows: Row) -> dict[str, object]:
    machine = {"processor": "CPU", "cores": 2, "gpus": gpus}
    return {"command": "llama-pajamas eval", "date": date, "machine": machine, "rows": [asdict(row) for row in rows]}


def test_the_newest_figure_counts_and_a_gap_is_shown_with_its_reason() -> None:
    chat, speech = "starter-chat", "starter-speech"
    found = [
        record("2026-11-20", [], Row(speech, "WER", 0.02, None, 9, 1.0, subject="A")),
        record(
            "2026-11-21",
            [],
            Row(speech, "WER", 0.01, None, 9, 1.0, subject="A", note="x"),
            Row(speech, "WER", None, None, 0, 0.0, subject="B", note="no GPU"),
            Row(speech, "WER", None, None, 0, 0.0, subject="C", note="not built"),
            Row(chat, "equal", 1.0, None, 5, 1.0, subject="A"),
        ),
        record(
            "2026-11-22",
            ["NVIDIA H200"],
            Row(speech, "WER", None, None, 0, 0.0, subject="A", note="not here"),
            Row(speech, "WER", 0.03, None, 9, 1.0, subject="B"),
        ),
    ]
    assert table(figures(found)).splitlines() == [
        "- `llama-pajamas eval` on CPU, 2 cores, 2026-11-21",
        "- `llama-pajamas eval` on NVIDIA H200, 2026-11-22",
        "",
        "| model | runtime | result | cases | |",
        "|---|---|--:|--:|---|",
        "| **starter-chat**: equal | A | 100.0% | 5 |  |",
        "| **starter-speech**: WER | A | 1.0% | 9 | x |",
        "|  | B | 3.0% | 9 | on NVIDIA H200 |",
        "|  | C | not run |  | not built |",
    ]
