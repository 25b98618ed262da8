"""The engine: sharing steps and the cache, giving way, leaving, and what is left behind."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.waiting import wait_until

from llama_pajamas_run_core.errors import BadInput, Busy, Cancelled, PajamasError
from llama_pajamas_run_core.types.chat import JsonFormat

pytest.importorskip("llama_cpp")

SYSTEM = "You are a tiny random model that answers with noise. " * 6


@pytest.fixture
def load(load_either):
    return load_either


def idle_cells(backend) -> int:
    """Cells in use once all idle sequences are dropped: those that leaked."""
    backend._ready().run(backend._engine._cache.drop_idle)
    return backend._engine._cache.ledger.size - backend._engine.load["cells_free"]


def greedy(backend, prompt: str, tokens: int = 24) -> str:
    return backend.generate(prompt, max_tokens=tokens, temperature=0.0).text


def test_a_shared_beginning_is_computed_once(load) -> None:
    backend = load()
    first = backend.chat([{"role": "system", "content": SYSTEM}, {"role": "user", "content": "One?"}], max_tokens=4)
    second = backend.chat([{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Two?"}], max_tokens=4)
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens > 0.8 * second.usage.prompt_tokens


def test_a_conversation_goes_on_where_it_was(load) -> None:
    backend = load()
    messages = [{"role": "user", "content": "hello world, how are you today?"}]
    known = 0
    for _ in range(4):
        answer = backend.chat(messages, max_tokens=12, temperature=0.0)
        # What the model wrote may be tokenized otherwise when it is read; all before it is the same.
        assert answer.usage.cached_tokens >= known - 4
        known = answer.usage.prompt_tokens
        messages += [
            {"role": "assistant", "content": answer.text},
            {"role": "user", "content": "and the edge is where the llama sleeps"},
        ]


def test_running_sequences_share_their_beginnings(load) -> None:
    backend = load(n_ctx=1024)
    prompt = SYSTEM * 3
    alone = greedy(backend, prompt)
    backend._ready().run(backend._engine._cache.drop_idle)
    leader = iter(backend.submit(_request(prompt, max_tokens=200)))
    next(leader)
    free = backend._engine.load["cells_free"]
    follower = backend.submit(_request(prompt, max_tokens=24)).result()
    assert follower.usage.cached_tokens == follower.usage.prompt_tokens - 1
    assert follower.text == alone
    if backend.details["kv_streams"] == 1:
        assert free - backend._engine.load["cells_free"] < 300  # not another copy of the prompt
    leader.close()


def test_shared_prefixes_change_no_answer(load) -> None:
    backend = load()
    prompts = [SYSTEM[: 40 + 20 * (number % 7)] + "abcdefg"[number % 5 :] for number in range(30)]
    fresh = load(n_lanes=1)
    expected = []
    for prompt in prompts:
        fresh._ready().run(fresh._engine._cache.drop_idle)
        expected.append(greedy(fresh, prompt))
    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(lambda prompt: greedy(backend, prompt), prompts)) == expected


def test_a_full_cache_makes_requests_wait_or_give_way(load) -> None:
    roomy, tight = load(n_ctx=256, n_lanes=6), load(n_ctx=256, n_lanes=6, kv_cells=256)
    prompts = [f"the quick brown fox number {number}" for number in range(12)]
    expected = [roomy.generate(p, max_tokens=150, temperature=0.0) for p in prompts]
    put_back = []
    original = tight._engine._put_back
    tight._engine._put_back = lambda sequence: (put_back.append(sequence), original(sequence))
    with ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(lambda p: tight.generate(p, max_tokens=150, temperature=0.0), prompts))
    assert [answer.text for answer in answers] == [answer.text for answer in expected]
    assert [answer.usage.completion_tokens for answer in answers] == [a.usage.completion_tokens for a in expected]
    assert put_back
    assert idle_cells(tight) == 0


def test_higher_priorities_go_first(load) -> None:
    backend = load(n_lanes=1, n_ctx=1024)
    order: list[str] = []
    running = backend.submit(_request("hello", max_tokens=300))
    next(iter(running))
    waiting = {
        name: backend.submit(_request(name, max_tokens=40, priority=p)) for name, p in (("low", -1), ("high", 5))
    }

    def read(name: str) -> None:
        waiting[name].result()
        order.append(name)

    threads = [threading.Thread(target=read, args=(name,)) for name in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert order == ["high", "low"]


def test_a_higher_priority_takes_a_lane_and_gives_it_back(load) -> None:
    backend = load(n_lanes=1, n_ctx=1024)
    expected = backend.submit(_request("hello", max_tokens=300)).result()
    slow = backend.submit(_request("hello", max_tokens=300))
    stream = iter(slow)
    first = next(stream)
    urgent = backend.submit(_request("now", max_tokens=5, priority=1)).result()
    assert urgent.usage.completion_tokens == 5
    rest = list(stream)
    assert first.text + "".join(delta.text for delta in rest) == expected.text
    assert rest[-1].usage == type(expected.usage)(
        expected.usage.prompt_tokens, expected.usage.completion_tokens, rest[-1].usage.cached_tokens
    )


def test_too_many_waiting_requests_are_refused(load) -> None:
    backend = load(n_lanes=1)
    streams: list = []

    def submit() -> None:
        for _ in range(400):
            streams.append(backend.submit(_request("hello", max_tokens=400)))

    with pytest.raises(Busy) as raised:
        submit()
    assert raised.value.retry_after > 0
    for stream in streams:
        stream.cancel()
    assert greedy(backend, "hello")


def test_a_long_prompt_does_not_stall_others(load) -> None:
    backend = load(n_ctx=2048, n_lanes=4, n_batch=256)
    stream = iter(backend.submit(_request("hello", max_tokens=400)))
    next(stream)
    done = threading.Event()
    answers = []

    def ask() -> None:
        answers.append(backend.generate(SYSTEM * 13, max_tokens=1))
        done.set()

    threading.Thread(target=ask).start()
    pieces = 0
    while not done.is_set():
        next(stream)
        pieces += 1
    assert pieces > 5  # the prompt was read over many steps, and each gave the stream a token
    assert answers[0].usage.prompt_tokens > 1000
    stream.close()


def test_cancelling_takes_effect_within_a_step(load) -> None:
    backend = load(n_lanes=2, n_ctx=1024)
    generation = backend.submit(_request("hello", max_tokens=900))
    next(iter(generation))
    generation.cancel()
    deadline = time.monotonic() + 5
    while backend._engine.load["running"] and time.monotonic() < deadline:
        time.sleep(0.005)
    assert backend._engine.load["running"] == 0


def test_a_waiting_request_can_be_cancelled(load) -> None:
    backend = load(n_lanes=1, n_ctx=1024)
    running = backend.submit(_request("hello", max_tokens=200))
    waiting = backend.submit(_request("hello there", max_tokens=200))
    waiting.cancel()
    with pytest.raises(Cancelled):
        waiting.result()
    assert running.result().usage.completion_tokens
    assert backend._engine.load["waiting"] == 0


def test_embeddings_do_not_wait_for_answers(load) -> None:
    backend = load(n_ctx=1024)
    stream = iter(backend.submit(_request("hello", max_tokens=900)))
    next(stream)
    vectors, _ = backend.embed(["between two steps"])
    assert vectors.shape == (1, 64)
    assert backend._engine.load["running"] == 1
    stream.close()


@pytest.mark.parametrize("cells", [512, None])
def test_nothing_is_left_after_random_use(load, cells: int | None) -> None:
    """Random lengths, grammars, stops and cancellations; then no request, no lane and no cell is left in use."""
    backend = load(n_ctx=256, n_lanes=6, kv_cells=cells)
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }

    def use(number: int) -> None:
        draw = random.Random(number)
        options = {"max_tokens": draw.randint(1, 60), "temperature": draw.choice([0.0, 1.0]), "seed": number}
        if draw.random() < 0.2:
            options["response_format"] = JsonFormat(schema)
        if draw.random() < 0.2:
            options["stop"] = (draw.choice("aeiou "),)
        prompt = SYSTEM[: draw.randint(1, 250)]
        try:
            generation = backend.submit(_request(prompt, **options))
            for step, _ in enumerate(generation):
                if draw.random() < 0.02:
                    generation.cancel()
                assert step < 200
        except (Cancelled, BadInput):
            pass
        except PajamasError as error:
            raise AssertionError(str(error)) from error

    with ThreadPoolExecutor(12) as callers:
        list(callers.map(use, range(400)))
    wait_until(lambda: not backend._engine.load["running"])
    assert backend._engine.load["running"] == backend._engine.load["waiting"] == 0
    assert idle_cells(backend) == 0
    assert greedy(backend, "hello") == greedy(load(), "hello")


def _request(prompt: str, **options):
    from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest

    return GenerationRequest(prompt, GenerationOptions(**{"temperature": 0.0, **options}))


def test_idle_conversations_leave_the_cache_and_come_back(load) -> None:
    backend = load(n_ctx=256, n_lanes=2, kv_unified=True)
    engine = backend._engine
    talk = SYSTEM + "What did I say?"
    alone = greedy(backend, talk)
    other = iter(backend.submit(_request("a stranger comes by", max_tokens=200)))
    next(other)  # while somebody else runs, whoever is idle is not in the cache
    assert not [slot for slot in engine._cache.slots if slot.tokens and not slot.busy]
    back = backend.submit(_request(talk, max_tokens=24)).result()
    other.close()
    assert back.usage.cached_tokens == back.usage.prompt_tokens - 1
    assert back.text == alone
    while engine.load["running"]:  # the stranger leaves with the next step
        time.sleep(0.001)
    assert idle_cells(backend) == 0


def test_those_who_come_one_soon_after_the_other_are_read_in_one_step(load, monkeypatch) -> None:
    backend = load(n_lanes=8)
    engine = backend._engine
    monkeypatch.setattr(engine._pacer, "reading_time", lambda tokens: 1.0)  # a moment is then the longest there is
    monkeypatch.setattr("llama_pajamas_run_gguf.engine.engine._LONGEST_GATHERING", 0.1)
    steps = []
    fill = engine._fill
    monkeypatch.setattr(engine, "_fill", lambda plan: steps.append(len(plan)) or fill(plan))
    streams = []
    for number in range(5):
        streams.append(backend.submit(_request(f"crowd {number}", max_tokens=4)))
        time.sleep(0.005)
    for stream in streams:
        stream.result()
    assert steps[0] == 5
    steps.clear()
    begun = time.monotonic()
    backend.submit(_request("all alone", max_tokens=1)).result()
    assert steps[0] == 1
    assert time.monotonic() - begun < 0.19  # one moment of 0.1 s, and no second one
    streams = [backend.submit(_request(f"full {number}", max_tokens=2)) for number in range(9)]
    assert [stream.result().finish_reason for stream in streams] == ["length"] * 9


def test_what_is_finished_is_copied_while_nobody_asks(load, monkeypatch) -> None:
    backend = load(n_ctx=256, n_lanes=2, kv_unified=True)
    cache = backend._engine._cache
    talk = SYSTEM + "What did I say?"
    alone = greedy(backend, talk)
    wait_until(lambda: cache._shelf._shelved)
    (slot,) = [slot for slot in cache.slots if slot.tokens]  # it is in the cache as well, for whoever goes on with it
    assert cache._shelf._shelved[0].tokens == slot.tokens
    monkeypatch.setattr("llama_pajamas_run_gguf.engine.shelf.read_state", lambda *given: pytest.fail("copied again"))
    other = iter(backend.submit(_request("a stranger comes by", max_tokens=100)))
    next(other)
    assert not [slot for slot in cache.slots if slot.tokens and not slot.busy]
    assert backend.submit(_request(talk, max_tokens=24)).result().text == alone
    other.close()


def test_the_shelf_keeps_within_its_limit_and_forgets_the_oldest(load) -> None:
    backend = load(n_ctx=256, n_lanes=2, prompt_cache_mib=1)
    shelf = backend._engine._cache._shelf
    talks = [f"number {number} {SYSTEM}" for number in range(40)]
    for talk in talks:
        greedy(backend, talk, 2)
        greedy(backend, "x", 1)  # somebody else's turn
        assert shelf.bytes <= 2**20
    assert 1 < len(shelf._shelved) < len(talks)
    assert backend.submit(_request(talks[-1], max_tokens=2)).result().usage.cached_tokens > 40
    assert backend.submit(_request(talks[0], max_tokens=2)).result().usage.cached_tokens < 10


def test_what_is_too_large_to_be_copied_leaves_its_beginning_on_the_shelf(load) -> None:
    backend = load(n_ctx=256, n_lanes=2)
    cache = backend._engine._cache
    shelf = cache._shelf
    greedy(backend, SYSTEM)
    wait_until(lambda: shelf._shelved)
    (slot,) = [slot for slot in cache.slots if slot.tokens]
    kept = shelf._shelved[0]
    backend._ready().run(lambda: shelf.put(slot.id, None, slot.tokens + slot.tokens[:1], most=1))
    assert shelf._shelved == [kept]
    backend._ready().run(lambda: shelf.put(slot.id, None, slot.tokens + slot.tokens[:1]))
    assert [len(one.tokens) for one in shelf._shelved] == [len(slot.tokens) + 1]


def test_the_shelf_keeps_so_many_conversations(load, monkeypatch) -> None:
    monkeypatch.setattr("llama_pajamas_run_gguf.engine.shelf._MOST", 3)
    backend = load(n_ctx=512, n_lanes=2)
    shelf = backend._engine._cache._shelf
    for number in range(6):
        both = [backend.submit(_request(f"{number} {name} " + SYSTEM, max_tokens=2)) for name in ("one", "two")]
        for one in both:
            one.result()
        assert len(shelf._shelved) <= 3
    wait_until(lambda: len(shelf._shelved) == 3)
    assert shelf.bytes == sum(shelved.state.nbytes for shelved in shelf._shelved)


def test_without_a_shelf_idle_conversations_are_computed_again(load) -> None:
    backend = load(n_ctx=256, n_lanes=2, prompt_cache_mib=0, kv_unified=True)
    alone = greedy(backend, SYSTEM)
    greedy(backend, "x", 1)
    again = backend.submit(_request(SYSTEM, max_tokens=24)).result()
    assert again.usage.cached_tokens == 0
    assert again.text == alone


def test_tokens_drawn_on_several_threads_are_the_same(load, monkeypatch) -> None:
    def answers(backend) -> list[str]:
        asked = [_request(f"story {n}", max_tokens=24, temperature=0.9, seed=n) for n in range(4)]
        return [generation.result().text for generation in [backend.submit(request) for request in asked]]

    expected = answers(load())
    backend = load()
    drawn = []
    draw = backend._engine._draw
    monkeypatch.setattr("llama_pajamas_run_gguf.engine.engine._WORTH_THREADS", 0)
    monkeypatch.setattr(backend._engine, "_draws", 3)
    with ThreadPoolExecutor(3) as drawers:
        monkeypatch.setattr(backend._engine, "_drawers", drawers)
        monkeypatch.setattr(backend._engine, "_draw", lambda outputs: drawn.append(draw(outputs)) or drawn[-1])
        assert answers(backend) == expected
    assert any(len(tokens) > 2 for tokens in drawn)
