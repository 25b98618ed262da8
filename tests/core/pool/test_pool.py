"""Leases, queues, memory, failures and the end of the pool."""

import asyncio
import threading
import time

import pytest
from support.waiting import until

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.errors import BadInput, Busy, LoadError, OutOfMemory, UnknownModel
from llama_pajamas_run_core.pool import FailedLoad, Plan, SelectionPlanner
from llama_pajamas_run_core.runtimes.info import RuntimeState
from llama_pajamas_run_core.testing.fakes import FAKE_RUNTIME, FakeBatchLLM, FakeLLM, fake_entry, fake_planner
from llama_pajamas_run_core.types.hardware import HardwareProfile, Processor
from llama_pajamas_run_core.types.tasks import Task

pytestmark = pytest.mark.anyio

_FAKE_LOAD = FakeLLM._load


def states(pool):
    return {status.id: status.state for status in pool.status()}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


async def test_a_lease_gives_a_ready_backend(make_pool):
    pool = make_pool()
    async with pool.lease("echo", Task.LLM) as llm:
        assert llm.chat("hello there").text == "hello there"
        (status,) = pool.status()
        assert (status.id, status.state, status.users, status.runtime) == ("echo", "loaded", 1, "fake")
        assert status.details["device"] == "imagination"
    assert pool.status()[0].users == 0


async def test_an_alias_is_the_same_model(make_pool):
    pool = make_pool()
    async with pool.lease("echo", Task.LLM) as one:
        pass
    async with pool.lease("gpt-4o", Task.LLM) as other:
        assert other is one


async def test_concurrent_askers_share_one_load(make_pool, monkeypatch):
    loads = []
    load = Plan.load
    monkeypatch.setattr(Plan, "load", lambda plan, gpu=None: loads.append(plan) or load(plan, gpu))
    pool = make_pool(fake_entry("x-batch", Task.LLM), options={"x-batch": {"load_seconds": 0.1, "lanes": 16}})

    async def ask():
        async with pool.lease("x-batch", Task.LLM) as llm:
            return llm

    backends = await asyncio.gather(*(ask() for _ in range(16)))
    assert len(loads) == 1
    assert len({id(backend) for backend in backends}) == 1


async def test_loading_leaves_the_event_loop_alone(make_pool):
    pool = make_pool(options={"echo": {"load_seconds": 0.3}})
    task = asyncio.create_task(pool.load("echo"))
    worst = 0.0
    while not task.done():
        start = time.perf_counter()
        pool.status()
        await asyncio.sleep(0.005)
        worst = max(worst, time.perf_counter() - start)
    assert worst < 0.2  # the load itself takes 0.3 seconds
    assert (await task).state == "loaded"


async def test_an_unknown_model_lists_what_there_is(make_pool):
    with pytest.raises(UnknownModel, match="echo"):
        async with make_pool().lease("nothing", Task.LLM):
            pass


async def test_a_model_is_not_used_for_another_task(make_pool):
    with pytest.raises(BadInput, match="speech to text") as caught:
        async with make_pool().lease("counter", Task.LLM):
            pass
    assert caught.value.param == "model"


async def test_a_single_lane_serves_one_after_another(make_pool):
    pool, inside, most = make_pool(), 0, 0

    async def ask():
        nonlocal inside, most
        async with pool.lease("echo", Task.LLM):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(ask() for _ in range(8)))
    assert most == 1


async def test_a_batching_model_serves_as_many_as_it_has_lanes(make_pool):
    pool, inside, most = make_pool(options={"team/echo-batch": {"lanes": 3}}), 0, 0

    async def ask():
        nonlocal inside, most
        async with pool.lease("team/echo-batch", Task.LLM) as llm:
            assert isinstance(llm, FakeBatchLLM)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(ask() for _ in range(9)))
    assert most == 3


async def test_higher_priorities_come_first(make_pool):
    pool, order = make_pool(), []

    async def ask(name, priority):
        async with pool.lease("echo", Task.LLM, priority=priority):
            order.append(name)

    async with pool.lease("echo", Task.LLM):
        tasks = []
        for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
            tasks.append(asyncio.create_task(ask(name, priority)))
            await asyncio.sleep(0)
        await until(lambda: pool.status()[0].waiting == 4)
    await asyncio.gather(*tasks)
    assert order == ["b", "d", "a", "c"]


async def test_a_full_queue_is_busy(make_pool):
    pool = make_pool(max_waiting=2)

    async def ask():
        async with pool.lease("echo", Task.LLM):
            pass

    async with pool.lease("echo", Task.LLM):
        tasks = [asyncio.create_task(ask()) for _ in range(2)]
        await until(lambda: pool.status()[0].waiting == 2)
        with pytest.raises(Busy, match="full") as caught:
            await ask()
        assert caught.value.retry_after >= 1
    await asyncio.gather(*tasks)


async def test_a_wait_that_takes_too_long_is_busy(make_pool):
    pool = make_pool()
    async with pool.lease("echo", Task.LLM):
        with pytest.raises(Busy, match="not free"):
            async with pool.lease("echo", Task.LLM, timeout=0.02):
                pass
        assert pool.status()[0].waiting == 0
    async with pool.lease("echo", Task.LLM, timeout=1):
        pass


async def test_cancelled_waiters_leak_no_lane(make_pool):
    pool = make_pool(options={"echo": {"load_seconds": 0.02}})

    async def ask(index):
        async with pool.lease("echo", Task.LLM):
            await asyncio.sleep(0.001 * (index % 3))

    for _ in range(5):
        tasks = [asyncio.create_task(ask(i)) for i in range(40)]
        for index, task in enumerate(tasks):
            if index % 3 == 0:
                await asyncio.sleep(0.0005)
            if index % 2:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: not any(status.users or status.waiting for status in pool.status()))
    async with pool.lease("echo", Task.LLM, timeout=1):
        assert pool.status()[0].users == 1


async def test_memory_is_reserved_before_loading(make_pool):
    entries = [fake_entry(name, Task.LLM, size=600) for name in "abc"]
    pool = make_pool(*entries, memory_budget=1300, options={name: {"load_seconds": 0.03} for name in "abc"})
    peaks = []

    async def ask(name):
        async with pool.lease(name, Task.LLM) as llm:
            peaks.append(pool.memory)
            assert llm.chat(name).text == name
            await asyncio.sleep(0.01)

    await asyncio.gather(*(ask(name) for name in "abcabcabc"))
    assert max(peaks) <= 1300
    assert max(peaks) == 1200  # two do fit beside each other


async def test_the_least_recently_used_idle_model_goes(make_pool):
    pool = make_pool(*(fake_entry(name, Task.LLM, size=400) for name in "abc"), memory_budget=900)
    for name in "ab":
        await pool.load(name)
    async with pool.lease("a", Task.LLM):
        pass
    await pool.load("c")
    assert states(pool) == {"a": "loaded", "c": "loaded"}


async def test_busy_models_are_not_evicted_while_an_idle_one_is_enough(make_pool):
    pool = make_pool(*(fake_entry(name, Task.LLM, size=400) for name in "abc"), memory_budget=900)
    async with pool.lease("a", Task.LLM) as a:
        await pool.load("b")
        await asyncio.wait_for(pool.load("c"), 1)
        assert states(pool) == {"a": "loaded", "c": "loaded"}
        assert a.chat("still here").text == "still here"


async def test_a_waiting_model_gets_its_room_when_the_users_are_done(make_pool):
    pool = make_pool(*(fake_entry(name, Task.LLM, size=800) for name in "ab"), memory_budget=900)
    async with pool.lease("a", Task.LLM):
        task = asyncio.create_task(pool.load("b"))
        await asyncio.sleep(0.05)
        assert not task.done()
    assert (await asyncio.wait_for(task, 1)).state == "loaded"
    assert states(pool) == {"b": "loaded"}


async def test_two_models_alternate_where_one_fits(make_pool):
    pool = make_pool(*(fake_entry(name, Task.LLM) for name in "ab"), max_loaded=1)

    async def ask(index):
        name = "ab"[index % 2]
        async with pool.lease(name, Task.LLM, timeout=10) as llm:
            return llm.chat(f"{name} {index}").text

    answers = await asyncio.gather(*(ask(index) for index in range(30)))
    assert answers == [f"{'ab'[index % 2]} {index}" for index in range(30)]
    assert len([status for status in pool.status() if status.state == "loaded"]) == 1


async def test_those_who_waited_before_are_served_before_the_eviction(make_pool):
    pool, order = make_pool(*(fake_entry(name, Task.LLM) for name in "ab"), max_loaded=1), []

    async def ask(name):
        async with pool.lease(name, Task.LLM):
            order.append(name)

    async with pool.lease("a", Task.LLM):
        tasks = []
        for name in "aaba":
            tasks.append(asyncio.create_task(ask(name)))
            await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    assert order == ["a", "a", "b", "a"]


async def test_a_model_larger_than_the_budget_is_refused_at_once(make_pool):
    pool = make_pool(fake_entry("big", Task.LLM, size=5 * 2**30), memory_budget=2**30)
    with pytest.raises(OutOfMemory, match=r"5\.0 GiB.*1\.0 GiB"):
        await pool.load("big")


async def test_pinned_models_leave_no_room(make_pool):
    pool = make_pool(*(fake_entry(name, Task.LLM) for name in "ab"), max_loaded=1)
    await pool.load("a", pin=True)
    with pytest.raises(OutOfMemory, match="stay loaded"):
        await asyncio.wait_for(pool.load("b"), 1)
    assert await pool.unload("a")
    await asyncio.wait_for(pool.load("b"), 1)


async def test_nothing_goes_for_a_model_that_gets_no_room_all_the_same(make_pool):
    sizes = {"a": 600, "b": 300, "c": 500}
    pool = make_pool(*(fake_entry(name, Task.LLM, size=size) for name, size in sizes.items()), memory_budget=1000)
    await pool.load("a", pin=True)
    await pool.load("b")
    with pytest.raises(OutOfMemory, match="stay loaded"):
        await asyncio.wait_for(pool.load("c"), 1)
    assert states(pool) == {"a": "loaded", "b": "loaded"}


async def test_a_model_that_is_to_stay_stays_though_another_waits_for_its_place(make_pool):
    pool = make_pool(*(fake_entry(name, Task.LLM) for name in "ab"), max_loaded=1, options={"a": {"load_seconds": 0.1}})
    pinning = asyncio.create_task(pool.load("a", pin=True))
    await until(lambda: states(pool) == {"a": "loading"})
    other = asyncio.create_task(pool.load("b"))
    assert (await pinning).state == "loaded"
    with pytest.raises(OutOfMemory, match="stay loaded"):
        await asyncio.wait_for(other, 1)
    assert states(pool) == {"a": "loaded"}


async def test_what_could_not_be_loaded_does_not_stay(make_pool, monkeypatch):
    clock = Clock()
    pool = make_pool(*(fake_entry(name, Task.LLM) for name in "ab"), max_loaded=1, clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(FakeLLM, "_load", lambda self, path, **how: (_ for _ in ()).throw(LoadError("no")))
        with pytest.raises(LoadError):
            await pool.load("a", pin=True)
    clock.now += 11
    await pool.load("a")
    await asyncio.wait_for(pool.load("b"), 1)
    assert states(pool) == {"b": "loaded"}


async def test_what_lies_elsewhere_leaves_room_on_the_host(make_pool, monkeypatch):
    elsewhere = {"a": 100, "b": None}
    monkeypatch.setattr(Backend, "host_memory", property(lambda self: elsewhere[self.name]))
    load = Plan.load

    def named(plan, gpu=None):
        backend = load(plan, gpu)
        backend.name = plan.options["name"]
        return backend

    monkeypatch.setattr(Plan, "load", named)
    monkeypatch.setattr(FakeLLM, "_load", lambda self, path, name=None, **how: _FAKE_LOAD(self, path, **how))
    entries = (fake_entry(name, Task.LLM, size=600) for name in "abc")
    pool = make_pool(*entries, memory_budget=1000, options={name: {"name": name} for name in "abc"})
    elsewhere["c"] = 0
    await pool.load("a")
    assert pool.memory == 600  # wherever it is
    await pool.load("b")  # 100 and 600
    assert states(pool) == {"a": "loaded", "b": "loaded"}
    await pool.load("c")  # on its way it may take 600, for which the one that came first is not enough
    assert states(pool) == {"c": "loaded"}


async def test_any_time_of_keeping_alive_will_do(make_pool):
    pool = make_pool(keep_alive=float("inf"))
    await pool.load("echo")
    await asyncio.sleep(0.02)
    keeper = pool._residents._keeper
    assert keeper is not None
    assert keeper.is_alive()


async def test_idle_models_are_unloaded_after_a_while_and_pinned_ones_stay(make_pool):
    pool = make_pool(*(fake_entry(name, Task.LLM) for name in "ab"), keep_alive=0.05)
    await pool.load("a", pin=True)
    async with pool.lease("b", Task.LLM):
        await asyncio.sleep(0.15)
        assert states(pool) == {"a": "loaded", "b": "loaded"}
    await until(lambda: states(pool) == {"a": "loaded"})


async def test_other_options_are_another_model(make_pool):
    pool = make_pool(options={"echo": {"context": 100}})
    async with pool.lease("echo", Task.LLM) as small, pool.lease("echo", Task.LLM, options={"context": 200}) as large:
        assert (small.context_length, large.context_length) == (100, 200)
        assert sorted(len(status.options) for status in pool.status()) == [0, 1]


async def test_unloading_waits_for_the_users(make_pool):
    pool = make_pool()
    async with pool.lease("echo", Task.LLM) as llm:
        task = asyncio.create_task(pool.unload("echo"))
        await asyncio.sleep(0.03)
        assert not task.done()
        assert llm.loaded
    assert await asyncio.wait_for(task, 1)
    assert not llm.loaded
    assert pool.status() == ()
    assert not await pool.unload("echo")


async def test_a_failed_load_is_not_tried_again_at_once(make_pool):
    clock = Clock()
    pool = make_pool(options={"echo": {"load_error": "cut off after 12 bytes"}}, clock=clock)
    with pytest.raises(FailedLoad, match="cut off") as first:
        await pool.load("echo")
    assert first.value.retry_after == pytest.approx(10)
    assert states(pool) == {"echo": "failed"}
    clock.now += 4
    with pytest.raises(FailedLoad, match="cut off") as second:
        await pool.load("echo")
    assert second.value.retry_after == pytest.approx(6)
    clock.now += 7
    with pytest.raises(FailedLoad) as third:
        await pool.load("echo")
    assert third.value.retry_after == pytest.approx(20)


async def test_a_model_that_was_replaced_is_tried_at_once_and_as_it_is_now(make_pool):
    pool = make_pool(fake_entry("echo", Task.LLM, size=3 * 2**30), options={"echo": {"load_error": "cut off"}})
    with pytest.raises(FailedLoad):
        await pool.load("echo")
    pool._planner = fake_planner()
    with pytest.raises(FailedLoad):
        await pool.load("echo")
    pool.catalogue.add(fake_entry("echo", Task.LLM, size=500))
    assert (await pool.load("echo")).memory == 500
    assert pool.status()[0].error is None


@pytest.mark.parametrize("where", ["_load", "details"])
async def test_whatever_a_library_raises_ends_the_load(make_pool, monkeypatch, where):
    class Panic(BaseException):
        """As PyO3's."""

    def panic(*_, **__):
        raise Panic("at 0x7f00")

    closed = []
    close = FakeLLM.close
    monkeypatch.setattr(FakeLLM, "close", lambda self: closed.append(self.loaded) or close(self))
    pool = make_pool()
    with monkeypatch.context() as patch:
        patch.setattr(FakeLLM, where, panic if where == "_load" else property(panic))
        with pytest.raises(LoadError, match="could not be loaded: Panic") as caught:
            await asyncio.wait_for(pool.load("echo"), 1)
    assert "0x7f" not in str(caught.value)
    assert states(pool) == {"echo": "failed"}
    assert (True in closed) == (where == "details")


async def test_a_load_that_works_again_forgets_the_failure(make_pool, monkeypatch):
    clock = Clock()
    pool = make_pool(clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(FakeLLM, "_load", lambda self, path, **how: (_ for _ in ()).throw(LoadError("no")))
        with pytest.raises(LoadError):
            await pool.load("echo")
    clock.now += 11
    assert (await pool.load("echo")).error is None


async def test_a_crash_while_loading_tells_no_internals(make_pool):
    pool = make_pool(options={"echo": {"load_error": "crash"}})
    with pytest.raises(LoadError) as caught:
        await pool.load("echo")
    assert "0x7f" not in str(caught.value)
    assert "/" not in str(caught.value)


async def test_all_who_wait_for_a_failing_load_are_told(make_pool):
    pool = make_pool(options={"echo": {"load_error": "bad", "load_seconds": 0.05}})
    results = await asyncio.gather(*(pool.load("echo") for _ in range(8)), return_exceptions=True)
    assert all(isinstance(result, FailedLoad) for result in results)
    assert pool.memory == 0


async def test_closing_drains(make_pool):
    pool = make_pool()
    done = asyncio.Event()

    async def ask():
        async with pool.lease("echo", Task.LLM) as llm:
            await asyncio.sleep(0.1)
            assert llm.loaded
            done.set()

    task = asyncio.create_task(ask())
    await until(lambda: states(pool) == {"echo": "loaded"})
    waiting = asyncio.create_task(pool.load("echo"))
    await asyncio.sleep(0.01)
    await pool.aclose(5)
    assert done.is_set()
    await task
    with pytest.raises(Busy, match="shutting down"):
        await waiting
    with pytest.raises(Busy, match="shutting down"):
        await pool.load("echo")
    assert pool.status() == ()


async def test_closing_does_not_wait_forever(make_pool):
    pool = make_pool()
    async with pool.lease("echo", Task.LLM):
        start = time.monotonic()
        await pool.aclose(0.1)
        assert time.monotonic() - start < 2


def test_the_sync_door(make_pool):
    with make_pool() as pool:
        answers = []

        def ask(index):
            with pool.use("echo", Task.LLM) as llm:
                answers.append(llm.chat(str(index)).text)

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert sorted(answers) == [str(index) for index in range(6)]
        with pool.use("echo", Task.LLM), pytest.raises(Busy), pool.use("echo", Task.LLM, timeout=0.01):
            pass
    assert pool.status() == ()


def test_loading_and_unloading_leaves_no_threads(make_pool):
    pool = make_pool(keep_alive=None)
    before = threading.active_count()
    for _ in range(20):
        with pool.use("echo", Task.LLM) as llm:
            assert isinstance(llm, Backend)
        asyncio.run(pool.unload("echo"))
    end = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before


async def test_a_failing_body_returns_its_lease(make_pool):
    pool = make_pool()
    with pytest.raises(ZeroDivisionError):
        async with pool.lease("echo", Task.LLM):
            raise ZeroDivisionError
    assert pool.status()[0].users == 0


def test_plans_follow_the_selection():
    profile = HardwareProfile("Linux", "", Processor("test", "x86_64", 2, 2))
    planner = SelectionPlanner(profile, [RuntimeState.of(FAKE_RUNTIME)], options={"echo": {"context": 77}})
    plan = planner(fake_entry("echo", Task.LLM, size=1000))
    assert plan.runtime == "fake"
    assert plan.memory > 1000
    with plan.load() as backend:
        assert isinstance(backend, FakeLLM)
        assert backend.context_length == 77
