"""On which GPU a model goes: on recorded machines, with live readings, and through the pool."""

from pathlib import Path

import pytest
from support.fake_nvml import GPU, NVML
from support.gpu_pool import Hardware, gpu_planner

from llama_pajamas_run_core.hardware import nvidia
from llama_pajamas_run_core.hardware.profiles import from_json
from llama_pajamas_run_core.hardware.readings import GPUReading, HostReading, Reading
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.pool import ModelPool, Placement, Plan
from llama_pajamas_run_core.testing.fakes import fake_catalogue, fake_entry
from llama_pajamas_run_core.types.tasks import Task

pytestmark = pytest.mark.anyio

SEVERAL = Path(__file__).parents[1] / "hardware" / "several"
GB = 10**9


def profile(name):
    return from_json((SEVERAL / f"{name}.json").read_text("utf-8"))


def indexes(machine, *uuids):
    return [next(gpu.index for gpu in machine.nvidia if gpu.uuid == uuid) for uuid in uuids]


def reading(*gpus):
    return Reading(0.0, HostReading(), tuple(GPUReading(index, *facts) for index, facts in enumerate(gpus)))


def test_the_most_free_memory_wins():
    machine = profile("server-h200-x4")
    placement = Placement(machine.nvidia)
    assert indexes(machine, placement.choose()) == [2]
    assert indexes(machine, placement.choose(avoid=(machine.nvidia[2].uuid, machine.nvidia[1].uuid))) == [3]
    workstation = profile("workstation-rtx-4090-and-3060")
    assert indexes(workstation, Placement(workstation.nvidia).choose()) == [0]


def test_nearly_the_same_memory_leaves_it_to_the_load():
    machine = profile("server-h200-x4")
    busy = [0.0, 0.2, 0.9, 0.0]
    seen = reading(
        *((gpu.uuid, gpu.name, gpu.memory, gpu.memory - gpu.memory_free, busy[gpu.index]) for gpu in machine.nvidia)
    )
    assert indexes(machine, Placement(machine.nvidia, lambda: seen).choose()) == [1]


def test_with_one_gpu_or_none_there_is_nothing_to_choose():
    machine = profile("server-h200-x4")
    assert Placement(()).choose() is None
    assert Placement(machine.nvidia[:1]).choose() is None


def test_what_others_take_counts_and_what_is_reserved_but_not_yet_taken():
    gpus, _ = nvidia.ask(NVML(GPU("GPU-a", 100 * GB, 0), GPU("GPU-b", 100 * GB, 0)), {})
    seen = reading(("GPU-a", "", 100 * GB, 60 * GB), ("GPU-b", "", 100 * GB, 10 * GB))
    placement = Placement(gpus, lambda: seen)
    placement.refresh()
    assert placement.room("GPU-a", {}, {}, {}) == 40 * GB
    assert placement.room("GPU-b", {"GPU-b": 30 * GB}, {}, {}) == 70 * GB
    assert placement.room("GPU-b", {"GPU-b": 15 * GB}, {"GPU-b": 15 * GB}, {}) == 75 * GB
    assert placement.room("GPU-a", {}, {}, {"GPU-a": 20 * GB}) == 60 * GB


def test_the_driver_is_not_asked_for_every_model():
    now, looks = [0.0], []
    gpus, _ = nvidia.ask(NVML(GPU("GPU-a"), GPU("GPU-b")), {})
    placement = Placement(gpus, lambda: looks.append(1), clock=lambda: now[0])
    placement.choose()
    placement.choose()
    assert len(looks) == 1
    now[0] = 1.0
    placement.choose()
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (1, "GPU-ab"), ("0", "GPU-aa"), ("GPU-ab", "GPU-ab"), ("GPU-a", None), (7, None), (True, None), ("cpu", None),
        ("", None),
    ],
)  # fmt: skip
def test_gpus_by_their_place_and_uuid(named, expected):
    gpus, _ = nvidia.ask(NVML(GPU("GPU-aa"), GPU("GPU-ab")), {})
    assert Placement(gpus).find(named) == expected


@pytest.fixture
def make(tmp_path):
    pools = []

    def make_pool(gpus, *entries, options=None, spreads=False, **how):
        planner = gpu_planner(options, spreads=spreads)
        pool = ModelPool(fake_catalogue(tmp_path, *entries), planner, placement=Placement(gpus), **how)
        pools.append(pool)
        return pool

    yield make_pool
    for pool in pools:
        pool.close(2.0)


def entries(*sizes):
    return [fake_entry(f"m{index}", Task.LLM, size=size) for index, size in enumerate(sizes)]


async def load(pool, *names):
    for name in names:
        await pool.load(name)


def places(pool):
    return {status.id: status.gpu for status in pool.status() if status.state == "loaded"}


async def test_models_spread_over_the_gpus_by_what_is_reserved(make):
    machine = profile("server-h200-x4")
    pool = make(machine.nvidia, *entries(80 * GB, 80 * GB, 80 * GB, 60 * GB))
    await load(pool, "m0", "m1", "m2", "m3")
    assert indexes(machine, *places(pool).values()) == [2, 1, 3, 2]
    async with pool.lease("m0", Task.LLM) as llm:
        assert llm.device == machine.nvidia[2].uuid


async def test_a_gpu_that_an_option_names_is_kept(make):
    machine = profile("server-h200-x4")
    wanted = machine.nvidia[0].uuid
    pool = make(machine.nvidia, *entries(GB, GB), options={"m0": {"device": wanted}, "m1": {"device": 3}})
    await load(pool, "m0", "m1")
    assert indexes(machine, *places(pool).values()) == [0, 3]
    async with pool.lease("m1", Task.LLM) as llm:
        assert llm.device == 3


async def test_a_single_gpu_is_left_to_the_runtime(make):
    machine = profile("server-h200-x4")
    pool = make(machine.nvidia[:1], *entries(GB))
    await load(pool, "m0")
    assert indexes(machine, *places(pool).values()) == [0]
    async with pool.lease("m0", Task.LLM) as llm:
        assert llm.device is None


async def test_a_model_that_runs_on_the_processor_holds_no_gpu(make):
    machine = profile("server-h200-x4")
    pool = make(machine.nvidia, *entries(GB), options={"m0": {"runs_on": "cpu"}})
    await load(pool, "m0")
    assert places(pool) == {"m0": None}


async def test_idle_models_go_when_no_gpu_has_room(make):
    machine = profile("workstation-rtx-4090-and-3060")  # 22 and 11.5 GB free
    pool = make(machine.nvidia, *entries(15 * GB, 9 * GB, 12 * GB))
    await load(pool, "m0", "m1")
    assert indexes(machine, *places(pool).values()) == [0, 1]
    await load(pool, "m2")
    assert list(places(pool)) == ["m1", "m2"]
    assert indexes(machine, places(pool)["m2"]) == [0]


async def test_a_model_larger_than_every_gpu_is_left_to_its_runtime(make):
    machine = profile("workstation-rtx-4090-and-3060")
    pool = make(machine.nvidia, *entries(40 * GB))
    await load(pool, "m0")
    assert indexes(machine, *places(pool).values()) == [0]


async def test_a_model_larger_than_every_gpu_is_spread_by_a_runtime_that_can(make):
    machine = profile("workstation-rtx-4090-and-3060")
    pool = make(machine.nvidia, *entries(30 * GB, 5 * GB), spreads=True)
    await load(pool, "m0", "m1")
    assert [None if gpu is None else indexes(machine, gpu) for gpu in places(pool).values()] == [None, [0]]
    async with pool.lease("m0", Task.LLM) as llm:
        assert llm.device is None
    assert Placement(machine.nvidia).choose(need=30 * GB) is None


async def test_pinned_models_on_a_gpu_are_no_reason_to_refuse(make):
    machine = profile("workstation-rtx-4090-and-3060")
    pool = make(machine.nvidia[1:], *entries(10 * GB, 10 * GB))
    await pool.load("m0", pin=True)
    await load(pool, "m1")
    assert list(places(pool)) == ["m0", "m1"]


async def test_live_readings_count_and_hot_gpus_are_passed_over(make):
    hardware = Hardware(GPU("GPU-a", 100 * GB, 0), GPU("GPU-b", 100 * GB, 0), GPU("GPU-c", 100 * GB, 0))
    gpus, _ = nvidia.ask(NVML(*hardware.gpus), {})
    pool = make(gpus, *entries(GB, GB, GB))
    end = pool.heed(hardware.monitor)
    hardware.gpus[0].used = 50 * GB  # another process
    hardware.gpus[1].throttling = 0x40
    hardware.look()
    await load(pool, "m0")
    assert places(pool) == {"m0": "GPU-c"}
    end()
    await load(pool, "m1", "m2")
    assert places(pool)["m1"] == "GPU-b"


def test_without_a_pool_the_choice_is_the_same(monkeypatch, tmp_path):
    chosen = []
    machine = Machine(fake_catalogue(tmp_path, *entries(GB)))
    machine.profile = profile("server-h200-x4")
    machine.placement = Placement(machine.profile.nvidia)
    monkeypatch.setattr(Machine, "_planner", lambda self, entry, runtime, options: gpu_planner({entry.id: options}))
    load = Plan.load
    monkeypatch.setattr(Plan, "load", lambda plan, gpu=None: chosen.append(gpu) or load(plan, gpu))
    with machine.open(Task.LLM, "m0") as llm:
        assert indexes(machine.profile, llm.device) == [2]
    with machine.open(Task.LLM, "m0", device="GPU-mine") as llm:
        assert llm.device == "GPU-mine"
    assert chosen[1] is None
