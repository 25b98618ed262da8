"""A Generation carries one answer from an engine thread to a reader."""

import asyncio
import threading
import time

import pytest

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.errors import Cancelled, InferenceError
from llama_pajamas_run_core.types.chat import Delta, ToolCall, ToolCallDelta, Usage

USAGE = Usage(3, 2)


def texts(generation: Generation) -> list[str]:
    return [delta.text for delta in generation]


def test_the_reader_gets_what_was_pushed_and_one_end() -> None:
    generation = Generation()
    generation.push("Hel")
    generation.push("lo")
    generation.finish("stop", USAGE)
    generation.finish("length", USAGE)
    generation.push("ignored")
    deltas = list(generation)
    assert [delta.text for delta in deltas] == ["Hel", "lo", ""]
    assert [delta.finish_reason for delta in deltas] == [None, None, "stop"]
    assert deltas[-1].usage == USAGE


def test_the_fold_joins_text_and_tool_calls() -> None:
    generation = Generation()
    generation.push("a", tool_calls=(ToolCallDelta(0, "call_1", "f", "{"),))
    generation.push("b", tool_calls=(ToolCallDelta(0, arguments="}"), ToolCallDelta(1, "call_2", "g", "{}")))
    generation.finish("tool_calls", USAGE)
    answer = generation.result()
    assert answer.text == "ab"
    assert str(answer) == "ab"
    assert answer.tool_calls == (ToolCall("call_1", "f", "{}"), ToolCall("call_2", "g", "{}"))
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        (["END"], ["one E", "N", "D two"], "one "),
        (["END"], ["one E", "N", "X two"], "one ENX two"),
        (["END"], ["one EN"], "one EN"),
        (["\n\n", "b"], ["a\n", "\nb"], "a"),
        (["aab"], ["aaab"], "a"),
        (["ö"], ["schön"], "sch"),
    ],
)
def test_stop_strings_are_found_across_pieces(stops: list[str], pieces: list[str], expected: str) -> None:
    generation = Generation(stops)
    for piece in pieces:
        generation.push(piece)
    generation.finish("length", USAGE)
    answer = generation.result()
    assert answer.text == expected
    assert answer.finish_reason == ("stop" if generation.stopped else "length")


def test_a_stop_string_tells_the_engine_to_stop() -> None:
    generation = Generation(["."])
    generation.push("Done")
    assert not generation.cancelled
    generation.push(". And more")
    assert generation.cancelled
    assert generation.stopped


def test_an_error_reaches_the_reader_after_what_was_pushed() -> None:
    generation = Generation()
    generation.push("half")
    generation.fail(InferenceError("The model broke."))
    seen = []
    with pytest.raises(InferenceError, match="The model broke"):
        seen.extend(delta.text for delta in generation)
    with pytest.raises(InferenceError):
        generation.result()


def test_leaving_the_iteration_cancels() -> None:
    generation = Generation()
    woken = threading.Event()
    generation.on_cancel(woken.set)
    generation.push("a")
    for _ in generation:
        break
    assert generation.cancelled
    assert woken.is_set()
    with pytest.raises(Cancelled):
        list(generation)


def test_reading_to_the_end_does_not_cancel() -> None:
    generation = Generation()
    generation.push("a")
    generation.finish("stop", USAGE)
    assert texts(generation) == ["a", ""]
    assert not generation.cancelled


def test_many_generations_are_read_on_one_loop() -> None:
    """Each reader gets its own deltas, in order, while one thread writes them all."""
    count, steps = 50, 20
    generations = [Generation() for _ in range(count)]

    def engine() -> None:
        for step in range(steps):
            for index, generation in enumerate(generations):
                generation.push(f"{index}:{step} ")
            time.sleep(0.001)
        for generation in generations:
            generation.finish("stop", USAGE)

    async def read(generation: Generation) -> str:
        return "".join([delta.text async for delta in generation])

    async def read_all() -> list[str]:
        return await asyncio.gather(*(read(generation) for generation in generations))

    thread = threading.Thread(target=engine)
    thread.start()
    answers = asyncio.run(asyncio.wait_for(read_all(), 10))
    thread.join()
    assert answers == ["".join(f"{index}:{step} " for step in range(steps)) for index in range(count)]


def test_the_loop_is_woken_once_for_what_is_pushed_at_once() -> None:
    async def count_calls() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        calls = 0
        original = loop.call_soon_threadsafe

        def counted(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            return original(*args, **kwargs)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign, assignment]
        generations = [Generation() for _ in range(30)]
        readers = [asyncio.create_task(generation.aresult()) for generation in generations]
        await asyncio.sleep(0)  # the readers now wait
        for generation in generations:  # one decode step, without giving the loop a turn
            generation.push("x")
        during_step = calls
        for generation in generations:
            generation.finish("stop", USAGE)
        answers = await asyncio.gather(*readers)
        return during_step, sum(answer.text == "x" for answer in answers)

    assert asyncio.run(count_calls()) == (1, 30)


def test_an_async_reader_that_leaves_cancels() -> None:
    async def leave() -> Generation:
        generation = Generation()
        generation.push("a")
        iterator = aiter(generation)
        assert await anext(iterator) == Delta("a")
        await iterator.aclose()  # type: ignore[attr-defined]
        return generation

    assert asyncio.run(leave()).cancelled


def test_a_cancellation_that_comes_too_late_leaves_the_answer() -> None:
    """Between the look whether the answer has ended and its end by an error, the engine may end it."""
    generation = Generation()
    late = threading.Thread(target=lambda: generation.finish("stop", USAGE))
    condition = generation._ready

    class Slow:
        def __enter__(self) -> object:
            generation._ready = condition
            late.start()
            late.join(5)
            return condition.__enter__()

        def __exit__(self, *_: object) -> None:
            condition.__exit__(None, None, None)

    generation._ready = Slow()  # type: ignore[assignment]
    generation.cancel()
    assert generation.result().finish_reason == "stop"
