"""Long prompts that are read aside, between the steps of running answers."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from support.tiny_lora import write_adapter

from llama_pajamas_run_core.errors import Cancelled, InferenceError
from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest

pytest.importorskip("llama_cpp")

LONG = "The llama sleeps where the edge of the hill is warm, and nobody counts its dreams. " * 60


def request(prompt: str, *, adapter: str | None = None, priority: int = 0, **options: Any) -> GenerationRequest:
    return GenerationRequest(prompt, GenerationOptions(adapter=adapter, priority=priority, **options))


@contextmanager
def answering(backend, tokens: int = 3000) -> Iterator[list[int]]:
    """A stream that is being answered meanwhile; the list has one element, how many pieces came."""
    generation = backend.submit(request("hello", max_tokens=tokens))
    stream, seen = iter(generation), [0]
    next(stream)

    def follow() -> None:
        with suppress(Cancelled):
            for _ in stream:
                seen[0] += 1

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield seen
        assert thread.is_alive(), "the stream ended before what it was to be beside"
    finally:
        generation.cancel()
        thread.join(10)


@pytest.fixture
def load(load_either):
    return load_either


@pytest.fixture
def backend(load):
    return load(n_ctx=4096, n_lanes=4, n_batch=256)


@pytest.fixture
def begun(backend, monkeypatch) -> list[int]:
    """How many tokens were computed before, of each prompt that was begun to be read aside."""
    side = backend._engine._side
    starts: list[int] = []
    begin = side.begin

    def noted(sequence, start, state):
        starts.append(start)
        return begin(sequence, start, state)

    monkeypatch.setattr(side, "begin", noted)
    return starts


def settled(backend) -> bool:
    """Whether nothing is left of what was read aside."""
    engine = backend._engine
    deadline = time.monotonic() + 5
    while engine.load["running"] and time.monotonic() < deadline:
        time.sleep(0.001)
    backend._ready().run(engine._cache.drop_idle)
    free = engine._cache.ledger.free == engine._cache.ledger.size
    return free and engine._side._context is None and engine._side.sequence is None and not engine._held


def test_the_answer_is_the_same(backend, begun, monkeypatch) -> None:
    alone = backend.submit(request(LONG, max_tokens=24, temperature=0.0)).result()
    backend._ready().run(backend._engine._cache.drop_idle)
    assert begun == []  # nobody was answered beside
    replace, carried = backend._engine._cache.replace, []
    monkeypatch.setattr(
        backend._engine._cache, "replace", lambda *given: carried.append(replace(*given)) or carried[-1]
    )
    with answering(backend) as seen:
        beside = backend.submit(request(LONG, max_tokens=24, temperature=0.0)).result()
    assert begun == [0]
    assert carried == [True]
    assert seen[0] > 20
    assert beside.text == alone.text
    assert beside.usage == alone.usage
    assert settled(backend)


def test_what_is_known_of_it_is_not_read_again(backend, begun) -> None:
    first = backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result()
    longer = LONG + LONG[:2000]
    with answering(backend):
        beside = backend.submit(request(longer, max_tokens=8, temperature=0.0)).result()
    assert len(begun) == 1
    assert begun[0] == beside.usage.cached_tokens >= first.usage.prompt_tokens - 2
    backend._ready().run(backend._engine._cache.drop_idle)
    assert beside.text == backend.submit(request(longer, max_tokens=8, temperature=0.0)).result().text


def test_long_prompts_take_turns(backend, begun) -> None:
    prompts = [f"{number}. {LONG}" for number in range(3)]
    alone = [backend.submit(request(prompt, max_tokens=8, temperature=0.0)).result().text for prompt in prompts]
    backend._ready().run(backend._engine._cache.drop_idle)
    with answering(backend):
        beside = [backend.submit(request(prompt, max_tokens=8, temperature=0.0)) for prompt in prompts]
        assert [one.result().text for one in beside] == alone
    assert begun == [0, 0, 0]
    assert settled(backend)


def test_a_short_prompt_does_not_wait_for_a_long_one(backend, begun) -> None:
    with answering(backend):
        order: list[str] = []

        def ask(prompt: str) -> None:
            backend.submit(request(prompt, max_tokens=1)).result()
            order.append(prompt)

        both = [threading.Thread(target=ask, args=(prompt,)) for prompt in (LONG, "good morning")]
        both[0].start()
        while not begun:
            time.sleep(0.001)
        both[1].start()
        for thread in both:
            thread.join()
    assert order == ["good morning", LONG]


def test_one_that_leaves_leaves_nothing_behind(backend, begun) -> None:
    for pieces in (0, 3, 10):
        with answering(backend) as seen:
            long = backend.submit(request(LONG, max_tokens=1))
            while not begun or seen[0] < pieces:
                time.sleep(0.001)
            long.cancel()
            assert backend.submit(request("hello there", max_tokens=2)).result().usage.completion_tokens
        begun.clear()
        assert settled(backend)


def test_one_that_has_to_give_way_is_answered_later(load) -> None:
    backend = load(n_ctx=4096, n_lanes=2, n_batch=256)
    alone = backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result().text
    backend._ready().run(backend._engine._cache.drop_idle)
    with answering(backend):
        long = backend.submit(request(LONG, max_tokens=8, temperature=0.0))
        urgent = backend.submit(request("help", max_tokens=4, priority=1)).result()
        assert urgent.usage.completion_tokens
        assert long.result().text == alone
    assert settled(backend)


def test_each_prompt_is_read_with_its_adapter(load, tmp_path) -> None:
    backend = load(n_ctx=4096, n_lanes=4, n_batch=256, adapters={"other": write_adapter(tmp_path / "other.gguf")})
    plain, adapted = (
        backend.submit(request(LONG, max_tokens=8, temperature=0.0, adapter=name)).result().text
        for name in (None, "other")
    )
    assert plain != adapted
    backend._ready().run(backend._engine._cache.drop_idle)
    with answering(backend) as seen:
        assert backend.submit(request(LONG, max_tokens=8, temperature=0.0, adapter="other")).result().text == adapted
        assert seen[0] > 20  # whose adapter is none goes on meanwhile
        assert backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result().text == plain
    assert settled(backend)


def test_without_memory_for_it_the_prompt_is_read_with_the_answers_steps(backend, monkeypatch) -> None:
    from llama_pajamas_run_core.errors import OutOfMemory

    alone = backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result().text
    backend._ready().run(backend._engine._cache.drop_idle)

    def full(*_: object, **__: object) -> None:
        raise OutOfMemory("There is no memory for that.")

    with monkeypatch.context() as patch, answering(backend):
        patch.setattr(backend._session, "open_context", full)
        assert backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result().text == alone
    assert settled(backend)
    monkeypatch.setattr("llama_pajamas_run_gguf.devices.host_memory_free", lambda: 1 << 20)
    with answering(backend):
        assert backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result().text == alone
    assert settled(backend)


def test_what_finds_no_room_in_the_cache_is_read_once_more(backend, begun, monkeypatch) -> None:
    alone = backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result().text
    cache = backend._engine._cache
    backend._ready().run(cache.drop_idle)
    monkeypatch.setattr("llama_pajamas_run_gguf.engine.cache.write_state", lambda *_: False)
    with answering(backend):
        assert backend.submit(request(LONG, max_tokens=8, temperature=0.0)).result().text == alone
    assert begun == [0]
    assert settled(backend)


def test_a_failure_ends_one_answer(backend, begun, monkeypatch) -> None:
    def broken() -> None:
        raise MemoryError("no room for a copy")

    with monkeypatch.context() as patch, answering(backend) as seen:
        patch.setattr(backend._engine._side, "take", broken)
        with pytest.raises(InferenceError, match="The prompt could not be read: no room for a copy"):
            backend.submit(request(LONG, max_tokens=1)).result()
        known = seen[0]
        assert backend.submit(request("good morning", max_tokens=8)).result().usage.completion_tokens
        assert seen[0] > known
    assert begun == [0]
    assert settled(backend)


def test_the_model_can_be_closed_meanwhile(load) -> None:
    from llama_pajamas_run_core.errors import PajamasError

    backend = load(n_ctx=4096, n_lanes=4, n_batch=256)
    stream = backend.submit(request("hello", max_tokens=3000))
    next(iter(stream))
    long = backend.submit(request(LONG, max_tokens=1))
    backend.close()
    with pytest.raises(PajamasError):
        long.result()
