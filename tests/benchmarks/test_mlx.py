"""The benchmarks of MLX run, on the starter model and a tiny one, and leave the records they promise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed", exc_type=ImportError)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # The checks of speed need a machine that does nothing else.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
def test_concurrency(tmp_path: Path) -> None:
    out = run("mlx_concurrency.py", *["--streams", 4, "--chats", 4, "--repeats", 1, "--folder", tmp_path])
    (path,) = tmp_path.glob("*-mlx-concurrency-*.json")
    found = json.loads(path.read_text())
    assert path.name in out
    assert found["checks"]["answers_equal"] is True
    assert found["checks"]["json_is_json"] is True
    assert set(found["tokens_per_second"]) == {"1", "4"}
    assert found["health"]["failed"] == 0
    assert found["health"]["busy_ms"]["p50"] > 0
    assert found["versions"]["mlx-lm"]
    assert str(tmp_path) not in path.read_text()


def test_many_streams_of_a_random_model(tmp_path: Path) -> None:
    sizes = ["--shape", "tiny", "--dtype", "float32", "--streams", "1,3", "--prompt", 8, "--generated", 6]
    out = run("mlx_cuda.py", "--out", tmp_path / "record.json", "--prompts", 2, "--repeats", 1, *sizes)
    found = json.loads((tmp_path / "record.json").read_text())
    assert [(row["dtype"], row["equal"]) for row in found["correctness"]] == [
        ("float32", 1.0), ("float16", 1.0), ("bfloat16", 1.0),
    ]  # fmt: skip
    assert set(found["speed"]["streams"]) == {"1", "3"}
    assert all(one["tokens_per_second"]["low"] > 0 for one in found["speed"]["streams"].values())
    assert "over the batch generator alone" in out
