"""The benchmarks run, on a tiny model and against our own server alone, and leave the records they promise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(folder, benchmark):
    (path,) = folder.glob(f"*-{benchmark}-here.json")
    return json.loads(path.read_text())


def test_concurrency(tmp_path):
    skipped = "llama-server,llama-server-split,llama-cpp-server,bare-engine"
    sizes = ["--streams", "1,2", "--repeats", "2", "--generated", "12", "--prompt", "24", "--long", "400"]
    out = run(
        *["llm_concurrency.py", "--quick", "--model", "tiny:f16", "--skip", skipped, *sizes],
        *["--threads", "1", "--results", tmp_path, "--machine", "here"],
    )
    found = record(tmp_path, "llm_concurrency")
    assert set(found["streams"]) == {"1", "2"}
    for by_name in found["streams"].values():
        assert set(by_name) == {"ours", "engine"}
        for values in by_name.values():
            assert values["errors"] == values["wrong_length"] == 0
            assert values["prompt_tokens"] == [24]
            assert len(values["tokens_per_second"]["runs"]) == 2
            assert values["tokens_per_second"]["low"] > 0
            assert values["ttft_ms"]["p50"] <= values["ttft_ms"]["p95"] <= values["ttft_ms"]["p99"]
    assert found["streams"]["2"]["ours"]["requests"] == 2 * 4  # few streams ask more often
    summary = found["summary"]
    assert set(summary["vs_engine"]) == {"1", "2"}
    assert summary["vs_fewest_streams"]["1"] == 1
    assert summary["in_process_ceiling"]["2"]["engine"] > 0
    assert summary["spread"]["vs_engine"]["1"][0] <= summary["vs_engine"]["1"] <= summary["spread"]["vs_engine"]["1"][1]
    assert summary["shared_prefix_later_over_first"]["ours"] > 0
    assert summary["long_prompt_p99_beside_over_without"]["ours"] > 0
    equal = summary["greedy_equality_share"]["as_loaded"]
    assert equal["alone_against_alone_again"] == 1
    assert "alone_against_llama_cpp_python" in equal
    assert found["machine"]["processor"]
    assert found["versions"]["llama-cpp-python"]
    assert found["command"].startswith("python benchmarks/llm_concurrency.py --quick")
    assert str(tmp_path) not in json.dumps(found)
    assert "ttft95" in out


def test_a_scenario_that_is_not_there_is_named():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "llm_concurrency.py"), "--skip", "everything"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no everything to skip" in done.stderr


@pytest.mark.parametrize("cells", [2048, 8192])
def test_soak(tmp_path, cells):
    sizes = ["--requests", "60", "--schemas", "6", "--cells", cells]
    run("soak.py", *sizes, "--results", tmp_path, "--machine", "here")
    found = record(tmp_path, "soak")
    assert all(found["checks"].values())
    assert sum(found["outcomes"].values()) == 60
    assert found["json_schemas"]["valid"] == 6
    assert found["left"]["cells_used_after_dropping_them"] == 0


@pytest.mark.parametrize("quantization", ["q8_0", "q4_k_m"])
def test_models_are_made_once(tmp_path, quantization):
    path = Path(run("models.py", "tiny", "--quantization", quantization, "--folder", tmp_path).strip())
    made = path.stat()
    assert path.parent == tmp_path
    assert path.stat().st_size < (tmp_path / path.name.replace(quantization, "f16")).stat().st_size
    assert Path(run("models.py", "tiny", "--quantization", quantization, "--folder", tmp_path).strip()) == path
    assert path.stat().st_mtime_ns == made.st_mtime_ns
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".gguf", ".gguf"]
