"""Many who come, wait, leave, pin and unload at random: no lease is lost, no limit passed, and nothing hangs."""

import asyncio
import random

import pytest

from llama_pajamas_run_core.errors import PajamasError
from llama_pajamas_run_core.testing.fakes import fake_entry
from llama_pajamas_run_core.types.tasks import Task

pytestmark = pytest.mark.anyio

BUDGET = 1000
NAMES = [f"m{index}" for index in range(6)]


@pytest.mark.parametrize("seed", range(5))
async def test_a_crowd_leaves_a_tidy_pool(make_pool, seed):
    chance = random.Random(seed)
    options = {name: {"load_seconds": chance.choice((0.0, 0.001, 0.01))} for name in NAMES}
    options[chance.choice(NAMES)]["load_error"] = "the file ends"
    pool = make_pool(
        *(fake_entry(name, Task.LLM, size=chance.choice((100, 300, 500, 900, 1500))) for name in NAMES),
        options=options,
        memory_budget=BUDGET,
        keep_alive=chance.choice((None, 0.01, 0.05)),
        max_loaded=chance.choice((None, 2)),
        max_waiting=8,
    )
    served, most = 0, 0

    async def visit(name, act, timeout, stay):
        nonlocal served, most
        try:
            if act < 0.03:
                await pool.load(name, pin=True)
            elif act < 0.1:
                await pool.unload(name)
            else:
                async with pool.lease(name, Task.LLM, timeout=timeout, priority=int(act * 3)) as llm:
                    most = max(most, pool.memory)
                    await asyncio.sleep(stay)
                    assert llm.loaded
                    served += 1
        except PajamasError:
            pass  # too large, damaged, busy: all of that has tests of its own

    loop, visits = asyncio.get_running_loop(), []
    for _ in range(400):
        how = chance.random(), chance.choice((None, 0.02, 5.0)), chance.choice((0.0, 0.001, 0.005))
        visits.append(asyncio.create_task(visit(chance.choice(NAMES), *how)))
        if chance.random() < 0.2:
            loop.call_later(0.02 * chance.random(), visits[-1].cancel)
        if chance.random() < 0.3:
            await asyncio.sleep(0.004 * chance.random())
    results = await asyncio.wait_for(asyncio.gather(*visits, return_exceptions=True), 30)
    assert [one for one in results if one is not None and not isinstance(one, asyncio.CancelledError)] == []
    assert served > 0
    assert 0 < most <= BUDGET
    assert not any(status.users or status.waiting for status in pool.status())
    await pool.aclose(5)
    assert {status.state for status in pool.status()} <= {"failed"}
