"""What every language backend must do."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from llama_pajamas_run_core.errors import BadInput, Cancelled, ContextTooLong, Unsupported
from llama_pajamas_run_core.testing.base import BackendContract
from llama_pajamas_run_core.types.chat import (
    Chat,
    Completion,
    Delta,
    GenerationOptions,
    GenerationRequest,
    JsonFormat,
    Message,
    NamedTool,
    Tool,
)

#: Questions that differ from their first word on.
QUESTIONS = ("What is 2 + 2?", "Name a colour.", "Turn on the lamp.", "How are you?", "Good night.", "Tell me more.")


class LLMContract(BackendContract):
    """Streams, stops, limits, many requests at once, and capabilities that are true.

    Attributes:
        tokens: how many tokens the tests let the model write.
        starts_equal: how many characters of a greedy answer must be the same alone and among other requests; None for
            all of them. Quantized models may be rounded otherwise in a batch.
    """

    tokens: ClassVar[int] = 24
    starts_equal: ClassVar[int | None] = None

    def ask(self, backend: Any) -> Completion:
        made: Completion = backend.chat("Hello!", max_tokens=self.tokens, temperature=0.0)
        return made

    def ask_wrongly(self, backend: Any) -> Any:
        return backend.chat("Hello!", temperature=9.0)

    def same(self, one: Completion, other: Completion) -> bool:
        return self._shown(one)[: self.starts_equal] == self._shown(other)[: self.starts_equal]

    def _shown(self, answer: Completion) -> str:
        return answer.reasoning + answer.text

    def _long(self, backend: Any, **options: Any) -> str:
        """Some text that the model writes, long enough to look for stop strings in it."""
        text = str(backend.generate("Once upon a time", max_tokens=4 * self.tokens, temperature=0.0, **options).text)
        assert len(text) > 12, "the model writes too little for these tests"
        return text

    # Streams

    def test_exactly_one_delta_ends_a_stream(self, backend: Any) -> None:
        deltas = list(backend.stream("Hello!", max_tokens=self.tokens, temperature=0.0))
        assert all(isinstance(delta, Delta) for delta in deltas)
        assert [delta.finish_reason is not None for delta in deltas].count(True) == 1
        assert deltas[-1].finish_reason in ("stop", "length")
        assert deltas[-1].usage is not None
        assert all(delta.usage is None for delta in deltas[:-1])

    def test_a_stream_joined_is_the_answer(self, backend: Any) -> None:
        deltas = list(backend.stream("Hello!", max_tokens=self.tokens, temperature=0.0))
        answer = self.ask(backend)
        joined = "".join(delta.reasoning for delta in deltas) + "".join(delta.text for delta in deltas)
        assert joined[: self.starts_equal] == self._shown(answer)[: self.starts_equal]
        if self.starts_equal is None:
            assert deltas[-1].usage is not None
            assert deltas[-1].usage.completion_tokens == answer.usage.completion_tokens
            assert deltas[-1].finish_reason == answer.finish_reason

    def test_async_iteration_gives_the_same(self, backend: Any) -> None:
        async def read() -> str:
            pieces = [delta async for delta in backend.stream("Hello!", max_tokens=self.tokens, temperature=0.0)]
            assert pieces[-1].finish_reason is not None
            return "".join(delta.reasoning for delta in pieces) + "".join(delta.text for delta in pieces)

        assert asyncio.run(read())[: self.starts_equal] == self._shown(self.ask(backend))[: self.starts_equal]

    def test_a_half_read_stream_frees_the_model(self, backend: Any) -> None:
        for _ in range(2 * backend.lanes):
            stream = iter(backend.stream("Tell me a long story.", temperature=0.0))
            next(stream)
            stream.close()
        started = time.monotonic()
        assert self._shown(self.ask(backend))
        assert time.monotonic() - started < 20

    def test_a_cancelled_reader_is_told(self, backend: Any) -> None:
        generation = backend.stream("Tell me a long story.", temperature=0.0)
        stream = iter(generation)
        next(stream)
        generation.cancel()
        with pytest.raises(Cancelled):
            list(stream)

    def test_readers_in_many_threads_get_their_own_answers(self, backend: Any) -> None:
        alone = [backend.chat(question, max_tokens=self.tokens, temperature=0.0) for question in QUESTIONS]
        start = threading.Barrier(len(QUESTIONS))

        def call(question: str) -> Completion:
            start.wait(timeout=10)
            answer: Completion = backend.chat(question, max_tokens=self.tokens, temperature=0.0)
            return answer

        with ThreadPoolExecutor(len(QUESTIONS)) as callers:
            together = list(callers.map(call, QUESTIONS))
        assert all(self.same(one, other) for one, other in zip(alone, together, strict=True))

    def test_many_streams_on_one_event_loop(self, backend: Any) -> None:
        async def read_all() -> list[Completion]:
            streams = [backend.stream(question, max_tokens=self.tokens, temperature=0.0) for question in QUESTIONS]
            return list(await asyncio.gather(*(stream.aresult() for stream in streams)))

        together = asyncio.run(read_all())
        alone = [backend.chat(question, max_tokens=self.tokens, temperature=0.0) for question in QUESTIONS]
        assert all(self.same(one, other) for one, other in zip(alone, together, strict=True))

    def test_closing_ends_running_streams(self, make_backend: Any) -> None:
        backend = make_backend()
        stream = iter(backend.stream("Tell me a long story.", temperature=0.0))
        next(stream)
        backend.close()
        with pytest.raises(Cancelled):
            list(stream)

    # Options

    def test_temperature_zero_is_repeatable(self, backend: Any) -> None:
        first, second = self.ask(backend), self.ask(backend)
        assert self.same(first, second)

    def test_a_seed_makes_sampling_repeatable(self, backend: Any) -> None:
        def sample(seed: int) -> Completion:
            return backend.chat("Hello!", max_tokens=self.tokens, temperature=1.0, seed=seed)  # type: ignore[no-any-return]

        assert self.same(sample(7), sample(7))

    def test_max_tokens_is_kept(self, backend: Any) -> None:
        one = backend.generate("Once upon a time", max_tokens=1, temperature=0.0)
        assert one.finish_reason == "length"
        assert one.usage.completion_tokens == 1
        some = backend.generate("Once upon a time", max_tokens=5, temperature=0.0)
        assert some.usage.completion_tokens <= 5
        assert some.finish_reason == ("length" if some.usage.completion_tokens == 5 else "stop")

    def test_usage_adds_up(self, backend: Any) -> None:
        usage = self.ask(backend).usage
        assert usage.prompt_tokens == backend.count_tokens([Message("user", "Hello!")])
        assert 0 < usage.completion_tokens <= self.tokens
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert 0 <= usage.cached_tokens < usage.prompt_tokens
        assert 0 <= usage.reasoning_tokens <= usage.completion_tokens

    def test_a_stop_string_never_appears(self, backend: Any) -> None:
        text = self._long(backend)
        for start, length in ((len(text) // 2, 1), (len(text) // 2, 5), (len(text) // 3, 9)):
            stop = text[start : start + length]
            answer = backend.generate("Once upon a time", max_tokens=4 * self.tokens, temperature=0.0, stop=(stop,))
            assert answer.finish_reason == "stop"
            assert answer.text == text[: text.index(stop)]

    def test_the_first_of_several_stop_strings_counts(self, backend: Any) -> None:
        text = self._long(backend)
        early, late = text[4:9], text[8:12]
        answer = backend.generate(
            "Once upon a time", max_tokens=4 * self.tokens, temperature=0.0, stop=(late, early, "never said")
        )
        assert answer.text == text[: min(text.index(early), text.index(late))]

    def test_text_is_never_cut_inside_a_character(self, backend: Any) -> None:
        for prompt in ("日本語のテキスト、", "Grüße, Žluťoučký kůň", "emoji \U0001f389\U0001f600"):
            deltas = list(backend.stream(prompt, max_tokens=self.tokens, temperature=1.0, seed=3))
            text = "".join(delta.text + delta.reasoning for delta in deltas)
            assert text.encode("utf-8").decode("utf-8") == text

    def test_options_out_of_range_are_named(self, backend: Any) -> None:
        for name, value in (("temperature", 9.0), ("top_p", -0.1), ("max_tokens", 0), ("logprobs", 99)):
            with pytest.raises(BadInput, match=name) as raised:
                backend.chat("Hello!", **{name: value})
            assert raised.value.param == name

    def test_an_over_long_prompt_is_an_error(self, backend: Any) -> None:
        with pytest.raises(ContextTooLong) as raised:
            backend.chat("word " * (2 * backend.context_length), max_tokens=1)
        assert raised.value.limit == backend.context_length
        assert raised.value.tokens > raised.value.limit

    def test_awkward_prompts_are_answered(self, backend: Any) -> None:
        for prompt in ("\x00", "\ud800 half a pair", " ", "\n\n", "<|im_end|>", "{{ 7 * 7 }}", "a" * 300):
            assert backend.chat(prompt, max_tokens=2, temperature=0.0).usage.prompt_tokens > 0

    def test_a_conversation_needs_a_message(self, backend: Any) -> None:
        with pytest.raises(BadInput, match="message"):
            backend.chat([])

    def test_roles_are_understood(self, backend: Any) -> None:
        messages = [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": [{"type": "text", "text": "Once "}, {"type": "text", "text": "more."}]},
        ]
        answer = backend.chat(messages, max_tokens=4, temperature=0.0)
        assert answer.usage.prompt_tokens > backend.count_tokens([Message("user", "Once more.")])
        with pytest.raises(BadInput, match="role"):
            backend.chat([{"role": "narrator", "content": "Hello!"}])

    # Capabilities

    def test_logprobs_are_there_or_refused(self, backend: Any) -> None:
        if not backend.capabilities.logprobs:
            with pytest.raises(Unsupported):
                backend.chat("Hello!", logprobs=2)
            return
        answer = backend.generate("Hello!", max_tokens=6, temperature=0.0, logprobs=3)
        assert len(answer.logprobs) == answer.usage.completion_tokens
        json.dumps([entry.logprob for entry in answer.logprobs])
        for entry in answer.logprobs:
            assert entry.logprob <= 1e-6
            assert len(entry.top) == 3
            assert [one.logprob for one in entry.top] == sorted((one.logprob for one in entry.top), reverse=True)
            assert entry.top[0].token_bytes == entry.token_bytes  # greedy
        assert b"".join(entry.token_bytes for entry in answer.logprobs).decode("utf-8", "replace") == answer.text

    def test_json_is_enforced_or_refused(self, backend: Any) -> None:
        schema = {
            "type": "object",
            "properties": {"ok": {"type": "boolean"}, "size": {"enum": [1, 2, 3]}},
            "required": ["ok", "size"],
            "additionalProperties": False,
        }
        if not backend.capabilities.json:
            with pytest.raises(Unsupported):
                backend.chat("Hello!", response_format=JsonFormat(schema))
            return
        answer = backend.chat("Hello!", temperature=0.0, max_tokens=200, response_format=JsonFormat(schema))
        value = json.loads(answer.text)
        assert set(value) == {"ok", "size"}
        assert isinstance(value["ok"], bool)
        assert value["size"] in (1, 2, 3)

    def test_tools_are_called_or_refused(self, backend: Any) -> None:
        tool = Tool(
            "set_lamp",
            "Switches a lamp.",
            {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
        )
        other = Tool("get_time", "Tells the time.")
        if not backend.capabilities.tools:
            with pytest.raises(Unsupported):
                backend.chat("Lamp on, please.", tools=[tool])
            return
        question = (Message("user", "Lamp on, please."),)
        options = GenerationOptions(max_tokens=200, temperature=0.0)
        for choice in ("required", NamedTool("set_lamp")):
            chat = Chat(question, (other, tool) if choice != "required" else (tool,), choice, parallel_tool_calls=False)
            answer = backend.submit(GenerationRequest(chat, options)).result()
            assert answer.finish_reason == "tool_calls"
            assert [call.name for call in answer.tool_calls] == ["set_lamp"]
            assert all(call.id for call in answer.tool_calls)
            assert isinstance(json.loads(answer.tool_calls[0].arguments)["on"], bool)
        with pytest.raises(BadInput, match="no_such_tool"):
            backend.chat("Hello!", tools=[tool], tool_choice=NamedTool("no_such_tool"))
        assert not backend.chat("Hello!", tools=[tool], tool_choice="none", max_tokens=4).tool_calls

    def test_embeddings_are_there_or_refused(self, backend: Any) -> None:
        if not backend.capabilities.embeddings:
            with pytest.raises(Unsupported):
                backend.embed(["Hello!"])
            return
        texts = ["the lamp is on", "the lamp is on", "a quick brown fox", "now"]
        vectors, tokens = backend.embed(texts)
        assert vectors.shape[0] == len(texts)
        assert tokens >= len(texts)
        assert (abs((vectors**2).sum(1) - 1) < 1e-3).all()
        assert (abs(vectors[0] - vectors[1]) < 1e-3).all()
        assert float(vectors[0] @ vectors[2]) < 0.9999
        single, _ = backend.embed([texts[2]])
        assert (abs(single[0] - vectors[2]) < 1e-2).all()
        with pytest.raises(BadInput, match="empty"):
            backend.embed(["fine", ""])
