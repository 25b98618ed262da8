"""How many threads a model computes with where nobody says."""

import os
import sys

import pytest

from llama_pajamas_run_gguf import threads


@pytest.mark.skipif(sys.platform != "linux", reason="affinity and quotas are Linux's")
@pytest.mark.parametrize(
    ("quota", "siblings", "expected"),
    [(None, 1, 6), (None, 2, 3), (4.0, 1, 4), (2.5, 1, 2), (0.5, 1, 1), (64.0, 2, 3)],
)
def test_physical_cores_within_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, siblings: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    monkeypatch.setattr(threads, "_siblings", lambda cpu: str(cpu // siblings))
    assert threads.default_threads() == expected


def test_small_models_are_faster_with_one() -> None:
    assert threads.default_threads(1 << 20) == 1
