"""A KV cache in streams: when it is chosen, what is copied, and that sequences lie side by side in every step."""

import random
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.tiny_lora import write_adapter
from support.waiting import wait_until

from llama_pajamas_run_core.errors import BadInput, OutOfMemory
from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest

llama_cpp = pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf import _quick, devices, planning  # noqa: E402
from llama_pajamas_run_gguf._session import Session  # noqa: E402
from llama_pajamas_run_gguf.engine import streams  # noqa: E402
from llama_pajamas_run_gguf.engine.states import read_state, write_state  # noqa: E402
from llama_pajamas_run_gguf.options import LoadOptions  # noqa: E402

TALK = "You are a tiny random model that answers with noise, and the llama sleeps in its pajamas. " * 4
MIB = 1 << 20


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is copied by ``llama_memory_seq_cp``, which ends the process between streams."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(_quick, "memory_seq_cp", lambda *given: calls.append(given))
    yield
    assert calls == []


def request(prompt: str, tokens: int = 24, **options: Any) -> GenerationRequest:
    return GenerationRequest(prompt, GenerationOptions(**{"max_tokens": tokens, "temperature": 0.0, **options}))


def greedy(backend, prompt: str, tokens: int = 24, **options: Any) -> str:
    return backend.submit(request(prompt, tokens, **options)).result().text


@contextmanager
def running(backend, prompt: str, tokens: int = 400, **options: Any) -> Iterator[Any]:
    """A request that has begun to be answered."""
    generation = backend.submit(request(prompt, tokens, **options))
    stream = iter(generation)
    next(stream)
    yield generation
    stream.close()


def planned(tiny_model, **options: Any):
    return planning.plan_memory(tiny_model, LoadOptions.of({"n_ctx": 512, "n_lanes": 4, **options}), None)


def streams_of(tiny_model, **options: Any) -> int:
    settings = planned(tiny_model, **options).plan.settings
    return 1 if settings.unified else settings.sequences


# When


def test_streams_are_chosen_where_they_fit(tiny_model) -> None:
    assert streams_of(tiny_model) == 4
    assert streams_of(tiny_model, kv_cells=4 * 512) == 4
    assert streams_of(tiny_model, kv_cells=4 * 512 - 1) == 1
    assert streams_of(tiny_model, n_lanes=1) == 1
    assert streams_of(tiny_model, kv_unified=True) == 1
    assert planned(tiny_model, n_ctx=300).plan.settings.cells == 4 * 512  # in llama.cpp's steps


def test_the_details_tell_how_many_there_are(load) -> None:
    assert [load(kv_unified=unified).details["kv_streams"] for unified in (None, False, True)] == [4, 4, 1]
    assert load(n_ctx=300).details["kv_cells"] == 4 * 512


def test_a_cache_in_streams_is_modest(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    size = planned(tiny_model, n_ctx=2048, kv_unified=False).footprint
    size = replace(size, weights=0, cache=40 * size.total)  # tiny as it is, the model's weights are much of it
    monkeypatch.setattr(planning.Rehearsal, "measure", lambda *_: size)
    for free, cells, expected in (
        (5 * size.cache, None, 4),
        (3 * size.cache, None, 1),
        (3 * size.cache, 2048, 4),  # who asks for so many cells gets them
    ):
        monkeypatch.setattr(devices, "host_memory_free", lambda free=free: free)
        assert streams_of(tiny_model, kv_cells=cells) == expected


def test_on_a_gpu_streams_are_for_who_asks(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: True)
    monkeypatch.setattr(devices, "gpu_memory_free", lambda gpu: 1 << 40)
    assert streams_of(tiny_model) == 1
    assert streams_of(tiny_model, kv_unified=False) == 4
    assert streams_of(tiny_model, n_gpu_layers=0) == 4


def test_models_that_cannot_have_streams_have_none(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Session, "rewinds", False)
        assert streams_of(tiny_model) == 1
        with pytest.raises(BadInput, match="recurrent state") as raised:
            streams_of(tiny_model, kv_unified=False)
        assert "kv_unified=True" in str(raised.value)
    for asked, answer, reason in (
        ("llama_model_n_swa", 32, "sliding window"),
        ("llama_model_has_encoder", True, "encoder"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(llama_cpp, asked, lambda model, answer=answer: answer)
            assert streams_of(tiny_model) == 1
            with pytest.raises(BadInput, match=reason):
                streams_of(tiny_model, kv_unified=False)
    measure = planning.Rehearsal.measure
    monkeypatch.setattr(planning.Rehearsal, "measure", lambda *given: replace(measure(*given), caches=2))
    assert streams_of(tiny_model) == 1
    with pytest.raises(BadInput, match="several kinds"):
        streams_of(tiny_model, kv_unified=False)


def test_what_is_too_small_for_streams_is_said(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"kv_cells=1000 is less than .* 512 tokens for each of 4 requests, 2048"):
        streams_of(tiny_model, kv_unified=False, kv_cells=1000)
    monkeypatch.setattr(devices, "host_memory_free", lambda: MIB)
    with pytest.raises(OutOfMemory, match="kv_unified=True"):
        streams_of(tiny_model, kv_unified=False)


# What is copied


def test_the_beginning_of_a_running_sequence_is_copied(load) -> None:
    backend = load(n_ctx=1024)
    alone = greedy(backend, TALK + "What?")
    backend._ready().run(backend._engine._cache.drop_idle)
    with running(backend, TALK + "Who?"):
        beside = backend.submit(request(TALK + "What?")).result()
    assert beside.text == alone
    assert beside.usage.cached_tokens > beside.usage.prompt_tokens - 8
    backend._ready().run(backend._engine._cache.drop_idle)
    with running(backend, "the edge is where"):  # too short to be worth a copy
        assert backend.submit(request("the edge is where", 2)).result().usage.cached_tokens == 0


def test_what_idles_is_continued_in_its_place_and_kept_on_the_shelf(load) -> None:
    backend = load(n_ctx=1024, n_lanes=2)
    cache = backend._engine._cache
    texts = [greedy(backend, TALK), greedy(backend, TALK + "What? " * 20)]
    (slot,) = [slot for slot in cache.slots if slot.tokens]
    branch = backend.submit(request(TALK + "Who? " * 20)).result()
    assert branch.usage.cached_tokens > 60
    assert [one for one in cache.slots if one.tokens] == [slot]
    with running(backend, "a stranger"):
        back = backend.submit(request(TALK + "What? " * 20)).result()
    assert back.usage.cached_tokens == back.usage.prompt_tokens - 1  # what was cut off came back from the shelf
    assert back.text == texts[1]
    assert greedy(backend, TALK) == texts[0]


def test_prompts_that_hardly_begin_alike_are_read_from_their_beginning(load) -> None:
    """Each of another length would be one more pass over the weights."""
    backend = load(n_ctx=512, n_lanes=3)
    for text in ("a word: " + "a" * 40, "a word: " + "b" * 60):  # one idle, one on the shelf as well
        greedy(backend, text)
    wait_until(lambda: backend._engine._cache._shelf._shelved)
    answers = [backend.submit(request("a word: " + letter * 30, 2)) for letter in "cde"]
    assert [answer.result().usage.cached_tokens for answer in answers] == [0, 0, 0]
    assert backend.submit(request("a word: " + "c" * 25, 2)).result().usage.cached_tokens > 16


def test_a_long_conversation_is_not_brought_back_for_a_short_beginning(load) -> None:
    backend = load(n_ctx=4096, n_lanes=2)
    cache = backend._engine._cache
    greedy(backend, TALK * 8)
    wait_until(lambda: cache._shelf._shelved)
    tokens = cache._shelf._shelved[0].tokens
    for slot in cache.slots:
        backend._ready().run(lambda slot=slot: cache.clear(slot))
    for length, used in ((20, 0), (len(tokens) // 2, len(tokens) // 2)):
        beginning = tokens[:length] + array("i", [1] * 8)
        shelved, shared = cache._shelf.longest(beginning, None, cache.min_shared - 1)
        assert (shelved is not None, shared) == (used > 0, used)


def test_a_copy_that_llama_cpp_refuses_is_computed(load, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load(n_ctx=1024)
    alone = greedy(backend, TALK + "What?")
    backend._ready().run(backend._engine._cache.drop_idle)
    monkeypatch.setattr(streams, "write_state", lambda *_: False)
    with running(backend, TALK + "Who?"):
        beside = backend.submit(request(TALK + "What?")).result()
    assert beside.usage.cached_tokens == 0
    assert beside.text == alone


def test_states_move_between_caches_of_any_number_of_streams(load) -> None:
    one, many = load(n_lanes=1, kv_unified=False), load(n_lanes=3)
    tokens = one._tokenizer.encode(TALK)
    for backend in (one, many):
        greedy(backend, TALK, 1)

    def held(backend):
        return next(slot for slot in backend._engine._cache.slots if slot.tokens)

    def carried(source, target, count: int) -> Any:
        state = source._ready().run(lambda: read_state(source._context, held(source).id, streams=count))
        cache = target._engine._cache
        for slot in cache.slots:
            target._ready().run(lambda slot=slot: cache.clear(slot))
        slot = cache.slots[-1]
        assert target._ready().run(lambda: cache.replace(slot, array("i", tokens), state))
        return target.submit(request(TALK, 16)).result()

    expected = greedy(load(), TALK, 16)
    for source, target, count in ((one, many, 3), (many, one, 1), (one, many, 3)):
        answer = carried(source, target, count)
        assert answer.text == expected
        assert answer.usage.cached_tokens == len(tokens) - 1
    empty = np.empty(0, np.uint8)
    assert not many._ready().run(lambda: write_state(many._context, 0, empty))


# Side by side


def gaps_of(backend) -> list[int]:
    """How many gaps the ids of each step have had."""
    seen: list[int] = []
    fill = backend._engine._fill

    def noted(plan):
        seen.append(streams._runs(work.slot.id for work in plan) - 1)
        outputs = fill(plan)
        ids = backend._engine._batch._sequences[: backend._engine._batch.length]
        assert (np.diff(ids) >= 0).all()
        return outputs

    backend._engine._fill = noted
    return seen


def test_sequences_lie_side_by_side_whoever_comes_and_goes(load) -> None:
    backend = load(n_ctx=256, n_lanes=6)
    backend._engine._cache._gap = 1000  # a gap costs more than any move
    draws = [random.Random(number) for number in range(60)]
    asked = [(TALK[: draw.randint(1, 300)] + str(number), draw.randint(1, 60)) for number, draw in enumerate(draws)]
    fresh = load(n_lanes=1, kv_unified=False)
    expected = [greedy(fresh, *one) for one in asked]
    gaps = gaps_of(backend)
    with ThreadPoolExecutor(6) as callers:
        assert list(callers.map(lambda one: greedy(backend, *one), asked)) == expected
    assert any(gaps)
    # One step is waited for somebody who fills the gap.
    assert not [pair for pair in zip(gaps, gaps[1:], strict=False) if all(pair)]


def test_a_gap_is_left_until_it_has_cost_as_much_as_a_move(load) -> None:
    backend = load(n_ctx=512, n_lanes=3)
    cache = backend._engine._cache
    cache._gap = 10
    gaps = gaps_of(backend)
    with running(backend, "one"), running(backend, "two") as second, running(backend, "three"):
        second.cancel()
        deadline = time.monotonic() + 10
        while not (any(gaps) and not gaps[-1]) and time.monotonic() < deadline:
            time.sleep(0.001)
    assert 1 < sum(gaps) < 20
    assert not gaps[-1]


def test_steps_of_adapters_make_way_for_each_other(load, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load(n_ctx=512, n_lanes=4, adapters={"other": write_adapter(tmp_path / "other.gguf")})
    names = (None, "other", None, "other")
    alone = [greedy(backend, f"{number} {TALK}", 60, adapter=name) for number, name in enumerate(names)]
    backend._ready().run(backend._engine._cache.drop_idle)
    exchange, moved = streams.StreamCache._exchange, []
    monkeypatch.setattr(
        streams.StreamCache, "_exchange", lambda self, *two: (moved.append(two[1].busy), exchange(self, *two))
    )
    backend._engine._cache._gap = 1000
    gaps = gaps_of(backend)
    asked = [backend.submit(request(f"{number} {TALK}", 60, adapter=name)) for number, name in enumerate(names)]
    assert [one.result().text for one in asked] == alone
    assert any(moved), "no sequence that a request was using gave way"
    assert not any(gaps[-20:])


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_a_move_that_llama_cpp_refuses_changes_no_answer(load, tmp_path, monkeypatch, refused: int) -> None:
    backend = load(n_ctx=512, n_lanes=4, adapters={"other": write_adapter(tmp_path / "other.gguf")})
    names = (None, "other", None, "other")
    alone = [greedy(backend, f"{number} {TALK}", 60, adapter=name) for number, name in enumerate(names)]
    backend._ready().run(backend._engine._cache.drop_idle)
    backend._engine._cache._gap = 1000
    calls: list[int] = []

    def sometimes(context, sequence, state):
        calls.append(sequence)
        return len(calls) % refused != 0 and write_state(context, sequence, state)

    monkeypatch.setattr(streams, "write_state", sometimes)
    asked = [backend.submit(request(f"{number} {TALK}", 60, adapter=name)) for number, name in enumerate(names)]
    assert [one.result().text for one in asked] == alone
    assert calls


def test_many_answers_to_one_prompt(load) -> None:
    backend = load(n_ctx=512, n_lanes=4)
    expected = [greedy(backend, TALK, temperature=1.0, seed=seed) for seed in range(6)]
    backend._ready().run(backend._engine._cache.drop_idle)
    choices = [backend.submit(request(TALK, temperature=1.0, seed=seed)) for seed in range(6)]
    assert [choice.result().text for choice in choices] == expected


def test_a_full_house_of_the_longest_requests_is_answered(load) -> None:
    backend = load(n_ctx=256, n_lanes=4)
    bias = {"logit_bias": {backend._tokenizer.eos: -100.0}}
    asked = [backend.submit(request(f"{number} {TALK}", None, **bias)) for number in range(8)]
    assert {one.result().usage.total_tokens for one in asked} == {256}
    backend._ready().run(backend._engine._cache.drop_idle)
    assert backend._engine.load["cells_free"] == backend._engine._cache.ledger.size == 4 * 256
