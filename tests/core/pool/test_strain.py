"""What strained hardware means for those who ask: the table of ``pool/admission.py``."""

import asyncio

import pytest
from support.fake_nvml import GPU, NVML
from support.gpu_pool import Hardware, gpu_planner
from support.waiting import until

from llama_pajamas_run_core.errors import Busy
from llama_pajamas_run_core.hardware import nvidia
from llama_pajamas_run_core.pool import ModelPool, Placement
from llama_pajamas_run_core.testing.fakes import fake_catalogue, fake_entry
from llama_pajamas_run_core.types.tasks import Task

pytestmark = pytest.mark.anyio
GB = 10**9


@pytest.fixture
def make(tmp_path):
    pools = []

    def make_pool(hardware, **how):
        gpus, _ = nvidia.ask(NVML(*hardware.gpus), {})
        models = [fake_entry(f"m{index}", Task.LLM, size=GB) for index in range(4)]
        pool = ModelPool(fake_catalogue(tmp_path, *models), gpu_planner(), placement=Placement(gpus), **how)
        pool.heed(hardware.monitor)
        hardware.look()
        pools.append(pool)
        return pool

    yield make_pool
    for pool in pools:
        pool.close(2.0)


def loaded(pool):
    return [status.id for status in pool.status() if status.state == "loaded"]


async def test_without_memory_a_model_is_not_loaded_and_the_client_may_come_again(make):
    hardware = Hardware(host=0.95)
    pool = make(hardware)
    with pytest.raises(Busy, match="This machine has too little memory left for the model 'm0' to be loaded") as caught:
        await pool.load("m0")
    assert caught.value.retry_after == 10.0
    hardware.host = 0.89  # not yet far enough below
    hardware.look()
    with pytest.raises(Busy):
        await pool.load("m0")
    hardware.host = 0.8
    hardware.look()
    await pool.load("m0")
    assert loaded(pool) == ["m0"]


async def test_a_loaded_model_is_used_and_waited_for_all_the_same(make):
    hardware = Hardware()
    pool = make(hardware)
    await pool.load("m0")
    hardware.host = 0.95
    hardware.look()
    async with pool.lease("m0", Task.LLM) as llm:
        assert llm.chat("hello").text == "hello"
        waiting = asyncio.ensure_future(pool.load("m0"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
    await waiting


async def test_idle_models_go_first_one_after_the_other_until_a_reading_shows_room(make):
    hardware = Hardware()
    pool = make(hardware)
    for name in ("m0", "m1", "m2"):
        await pool.load(name)
    hardware.host = 0.95
    hardware.look()
    asked = asyncio.ensure_future(pool.load("m3"))
    await until(lambda: loaded(pool) == ["m1", "m2"])
    hardware.look()  # perhaps taken before the memory was back
    await asyncio.sleep(0.02)
    assert loaded(pool) == ["m1", "m2"]
    hardware.look()  # still too much in use
    await until(lambda: loaded(pool) == ["m2"])
    hardware.host = 0.5
    hardware.look()
    hardware.look()
    await asked
    assert loaded(pool) == ["m2", "m3"]


async def test_where_nothing_idle_is_left_it_is_refused(make):
    hardware = Hardware()
    pool = make(hardware)
    await pool.load("m0")
    await pool.load("m1", pin=True)
    hardware.host = 0.95
    hardware.look()
    async with pool.lease("m0", Task.LLM):
        with pytest.raises(Busy):
            await pool.load("m2")
    assert loaded(pool) == ["m0", "m1"]


async def test_a_full_gpu_is_passed_over_and_full_gpus_give_up_their_idle_models(make):
    hardware = Hardware(GPU("GPU-a", 100 * GB, 95 * GB), GPU("GPU-b", 100 * GB, 10 * GB))
    pool = make(hardware)
    await pool.load("m0")
    assert [status.gpu for status in pool.status()] == ["GPU-b"]
    hardware.gpus[1].used = 97 * GB
    hardware.look()
    asked = asyncio.ensure_future(pool.load("m1"))
    await until(lambda: loaded(pool) == [])
    hardware.gpus[1].used = 40 * GB
    hardware.look()
    hardware.look()
    await asked
    assert [status.gpu for status in pool.status() if status.id == "m1"] == ["GPU-b"]
    hardware.gpus[1].used = 97 * GB
    hardware.look()
    async with pool.lease("m1", Task.LLM):
        with pytest.raises(Busy, match="GPU 0 has too little memory left"):
            await pool.load("m2")


async def test_a_hot_gpu_takes_nothing_that_would_wait(make):
    hardware = Hardware(GPU("GPU-a", 100 * GB, 0))
    pool = make(hardware)
    await pool.load("m0")
    hardware.gpus[0].throttling = 0x40
    hardware.look()
    async with pool.lease("m0", Task.LLM) as llm:  # a free lane is used
        assert llm.chat("hello").text == "hello"
        with pytest.raises(Busy, match="GPU 0 is too hot to take more requests for the model 'm0'") as caught:
            await pool.load("m0")
        assert caught.value.retry_after == 10.0
    with pytest.raises(Busy, match="GPU 0 is too hot for the model 'm1' to be loaded now"):
        await pool.load("m1")
    assert loaded(pool) == ["m0"]  # unloading it would cool nothing
    hardware.gpus[0].throttling = 0
    for _ in range(3):
        hardware.look()
    await pool.load("m1")


async def test_heat_alone_and_a_power_cap_turn_nobody_away(make):
    hardware = Hardware(GPU("GPU-a", 100 * GB, 0, temperature=90, throttling=0x04))
    pool = make(hardware)
    assert [alert.kind for alert in hardware.monitor.watch().alerts] == ["temperature"]
    await pool.load("m0")
    async with pool.lease("m0", Task.LLM):
        waiting = asyncio.ensure_future(pool.load("m0"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
    await waiting


async def test_one_who_waits_for_room_gives_up_in_time(make):
    hardware = Hardware()
    pool = make(hardware)
    await pool.load("m0")
    hardware.host = 0.95
    hardware.look()
    with pytest.raises(Busy, match="not free within 0.05 seconds"):
        async with pool.lease("m1", Task.LLM, timeout=0.05):
            pass
    await until(lambda: loaded(pool) == [])


async def test_a_monitor_that_is_no_longer_heeded_keeps_nobody_out(make):
    hardware = Hardware(host=0.95)
    pool = make(hardware)
    end = pool.heed(hardware.monitor)
    end()
    await pool.load("m0")
