"""Memory: told before loading, measured after, and what is given up where it is short."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.tiny_gguf import write_tiny_gguf

from llama_pajamas_run_core.errors import BadInput, OutOfMemory

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf import memory
from llama_pajamas_run_gguf._session import ContextSettings
from llama_pajamas_run_gguf.memory import Fixed, Footprint, Plan, Rehearsal, fit, footprint, modest

MIB = 1 << 20
WANTED = Plan.of(4096, ContextSettings(cells=32768, sequences=16, batch=512, threads=1), -1)
BYTES = {"f16": 2.0, "q8_0": 1.0625, "q4_0": 0.5625}


def measure(plan: Plan) -> Footprint:
    """A model of 1,000 MiB in 16 layers, 64 KiB of cache for a token in f16."""
    cache = int(plan.settings.cells * 32 * 1024 * BYTES[plan.settings.kv_type])
    share = 0 if plan.gpu_layers == 0 else 1 if plan.gpu_layers < 0 else plan.gpu_layers / 16
    return Footprint(1000 * MIB, cache, 100 * MIB, int(share * (1000 * MIB + cache)))


def on_host(plan: Plan) -> Footprint:
    return replace(measure(plan), on_gpu=0)


def fitted(host: int, gpu: int = 0, fixed: Fixed | None = None, measure=on_host):
    return fit(WANTED, fixed or Fixed(), measure, host_free=host * MIB, gpu_free=gpu * MIB, layers=16)


def test_nothing_is_given_up_where_there_is_room() -> None:
    assert fitted(8000) == (WANTED, on_host(WANTED), ())
    assert fit(WANTED, Fixed(), on_host, host_free=None, gpu_free=0, layers=16)[0] == WANTED


def test_steps_come_in_the_order_stated() -> None:
    plan, size, given_up = fitted(1300)
    assert size.total <= 1300 * MIB
    assert [note.split()[1] for note in given_up] == ["cache", "cache", "cache", "cache", "cache", "context"][
        : len(given_up)
    ]
    assert plan.settings.cells == 4096
    assert plan.settings.kv_type in ("q8_0", "q4_0")
    assert plan.context == 4096
    shorter, _, notes = fitted(1190)
    assert shorter.context < 4096
    assert "context has" in notes[-1]


def test_what_was_asked_for_is_kept() -> None:
    plan, _, given_up = fitted(1700, fixed=Fixed(kv_type=True, context=True))
    assert plan.settings.kv_type == "f16"
    assert plan.context == 4096
    assert given_up
    with pytest.raises(OutOfMemory, match="3,148 MiB of host memory") as raised:
        fitted(700, fixed=Fixed(True, True, True, True))
    assert "kv_type" in str(raised.value)


def test_a_type_that_the_model_cannot_have_is_passed_over() -> None:
    def picky(plan: Plan) -> Footprint:
        if plan.settings.kv_type != "f16":
            raise BadInput("odd heads")
        return on_host(plan)

    plan, size, _ = fitted(1220, measure=picky)
    assert plan.settings.kv_type == "f16"
    assert plan.context < 4096
    assert size.total <= 1220 * MIB


def test_weights_alone_may_be_larger_than_memory() -> None:
    plan, size, _ = fitted(600)
    assert size.weights > 600 * MIB
    assert size.total - size.weights < 600 * MIB
    assert plan.context >= 512


def test_layers_leave_the_gpu_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.llama_cpp, "llama_supports_gpu_offload", lambda: True)
    plan, size, given_up = fitted(8000, 600, measure=measure)
    assert 0 < plan.gpu_layers < 16
    assert size.on_gpu <= 600 * MIB
    assert "layers are on the GPU" in given_up[-1]
    assert any("q4_0" in note for note in given_up)
    assert fitted(8000, 0, measure=measure)[0].gpu_layers == 0


def test_a_cache_that_nobody_asked_for_is_modest() -> None:
    plan = modest(WANTED, on_host(WANTED), 4000 * MIB, 0)
    assert on_host(plan).cache <= 1016 * MIB  # in llama.cpp's steps of 256 tokens
    assert plan.settings.cells >= plan.context
    assert modest(WANTED, on_host(WANTED), 40_000 * MIB, 0) == WANTED


def test_llama_cpps_report_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "llama_context:  CUDA_Host  output buffer size =     1.00 MiB",
        "llama_kv_cache: size =  256.00 MiB ( 32768 cells,   8 layers, 16/1 seqs), K (f16):  128.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =   300.00 MiB",
        "sched_reserve:        CPU compute buffer size =    10.00 MiB",
    ]
    assert footprint(lines, 1000 * MIB, layers=8, on_gpu=-1) == Footprint(1000 * MIB, 256 * MIB, 311 * MIB, 300 * MIB)
    monkeypatch.setattr(memory.llama_cpp, "llama_supports_gpu_offload", lambda: True)
    windows = [*lines, "llama_kv_cache: size =    8.00 MiB (  1024 cells,   8 layers, 16/1 seqs), K (f16):    4.00 MiB"]
    assert [footprint(told, 0, layers=8, on_gpu=0).caches for told in ([], lines, windows)] == [0, 1, 2]
    half = footprint(lines, 1000 * MIB, layers=8, on_gpu=4)
    assert half.on_gpu == (300 + 128 + 500) * MIB


def test_the_estimate_is_what_is_used(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    path = write_tiny_gguf(
        tmp_path / "wide.gguf", dim=512, layers=8, heads=8, kv_heads=4, vocabulary=8000, context=8192
    )
    code = f"""
import psutil
import llama_pajamas_run_gguf.llm as room
from llama_pajamas_run_gguf.memory import Rehearsal
room.GGUFLLMBackend({str(path)!r}, n_ctx=256, n_lanes=1, n_threads=1).close()  # libraries are loaded
before = psutil.Process().memory_info().rss
with room.GGUFLLMBackend({str(path)!r}, n_ctx=8192, n_lanes=4, n_threads=1, kv_type="f16") as backend:
    backend.generate("hello " * 400, max_tokens=2)
    used = psutil.Process().memory_info().rss - before
    print(sum(backend.details["memory"].values()) / used)
"""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 1.1


def test_a_rehearsal_takes_no_memory_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", dim=128, heads=2, kv_heads=2)
    with Rehearsal(path) as rehearsal:
        sizes = [
            rehearsal.measure(replace(WANTED, settings=replace(WANTED.settings, kv_type=kind))).cache for kind in BYTES
        ]
    assert sizes[0] == 32768 * 2 * 2 * 128 * 2  # cells, K and V, layers, width, bytes
    assert sizes[1] / sizes[0] == pytest.approx(1.0625 / 2)
    assert sizes[2] / sizes[0] == pytest.approx(0.5625 / 2)


def test_a_short_memory_shows_in_the_details(load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from llama_pajamas_run_gguf import devices

    path = write_tiny_gguf(tmp_path / "tiny.gguf", dim=128, heads=2, kv_heads=2, context=16384)
    monkeypatch.setattr(devices, "host_memory_free", lambda: 8 * MIB)
    backend = load(model=path, n_ctx=None, n_lanes=2, kv_type=None, flash_attention=None)
    assert backend.details["given_up_for_memory"]
    assert backend.host_memory == sum(backend.details["memory"].values())  # without a GPU all of it
    assert backend.context_length < 8192
    assert backend.generate("hello", max_tokens=2).usage.completion_tokens
