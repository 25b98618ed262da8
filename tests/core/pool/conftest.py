"""A pool of fakes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_pajamas_run_core.pool import ModelPool
from llama_pajamas_run_core.testing.fakes import fake_catalogue, fake_planner


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[Callable[..., ModelPool]]:
    """Makes pools of the given models, and closes them."""
    pools: list[ModelPool] = []

    def make(*entries: Any, options: Any = None, **how: Any) -> ModelPool:
        pool = ModelPool(fake_catalogue(tmp_path / str(len(pools)), *entries), fake_planner(options), **how)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close(2.0)
