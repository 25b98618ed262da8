"""The official client, sync and async, with no adapter."""

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "switch_light", "parameters": SCHEMA}}]


@pytest.fixture(scope="module")
def sync(live):
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
async def client(live):
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def user(text):
    return [{"role": "user", "content": text}]


def test_chat(sync):
    reply = sync.chat.completions.create(model="echo", messages=user("hello you"))
    assert reply.choices[0].message.content == "hello you"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply._request_id.startswith("req_")


def test_chat_streams(sync):
    stream = sync.chat.completions.create(
        model="gpt-4o", messages=user("hello you 🦙"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello you 🦙"
    assert chunks[-1].usage.completion_tokens == 3


async def test_chat_async(client):
    replies = await asyncio.gather(
        *(client.chat.completions.create(model="team/echo-batch", messages=user(f"number {i}")) for i in range(8))
    )
    assert [reply.choices[0].message.content for reply in replies] == [f"number {i}" for i in range(8)]
    stream = await client.chat.completions.create(model="echo", messages=user("a b c"), stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "a b c"


def test_tools(sync):
    reply = sync.chat.completions.create(model="echo", messages=user("use switch_light"), tools=TOOLS)
    (call,) = reply.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"text": "use switch_light"}
    with sync.chat.completions.stream(model="echo", messages=user("use switch_light"), tools=TOOLS) as stream:
        stream.until_done()
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.name == "switch_light"


class Answer(BaseModel):
    name: str
    count: int
    tags: list[str]


def test_parse(sync):
    reply = sync.chat.completions.parse(model="echo", messages=user("thing"), response_format=Answer)
    assert reply.choices[0].message.parsed == Answer(name="thing", count=1, tags=["thing"])


def test_completions(sync):
    reply = sync.completions.create(model="echo", prompt=["one two", "three"])
    assert [choice.text for choice in reply.choices] == ["one two", "three"]
    stream = sync.completions.create(model="echo", prompt="a b", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "a b"


async def test_embeddings(sync, client):
    by_default = sync.embeddings.create(model="echo", input=["alpha", "beta"])  # asks for base64 behind the scenes
    floats = await client.embeddings.create(model="echo", input=["alpha", "beta"], encoding_format="float")
    assert [item.embedding for item in by_default.data] == [item.embedding for item in floats.data]


def test_models(sync):
    assert "echo" in {model.id for model in sync.models.list()}
    assert sync.models.retrieve("team/echo-batch").owned_by == "fakes"


def test_errors(sync):
    with pytest.raises(openai.NotFoundError) as missing:
        sync.chat.completions.create(model="nothing", messages=user("x"))
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as bad:
        sync.chat.completions.create(model="echo", messages=user("x"), temperature=9)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.InternalServerError):
        sync.chat.completions.create(model="echo", messages=user("fail now"))
    with pytest.raises(openai.APIError, match="failed while running"):
        for _ in sync.chat.completions.create(model="echo", messages=user("fail later 1 2 3 4"), stream=True):
            pass


async def test_a_closed_stream_frees_the_lane(live, client):
    stream = await client.chat.completions.create(model="echo", messages=user("word " * 2000), stream=True)
    await anext(aiter(stream))
    await stream.close()
    reply = await asyncio.wait_for(client.chat.completions.create(model="echo", messages=user("next")), 2)
    assert reply.choices[0].message.content == "next"


@pytest.mark.parametrize("format", ["json", "text", "srt", "verbose_json", "vtt"])
async def test_transcriptions(sync, client, wav, format):
    ask = {"model": "whisper-1", "response_format": format, "file": ("speech.wav", wav)}
    reply = sync.audio.transcriptions.create(**ask)
    other = await client.audio.transcriptions.create(**ask)
    if format in ("json", "verbose_json"):
        assert reply.text == other.text == "one two three four"
    else:
        assert reply == other
        assert isinstance(reply, str)
        assert "one two three four" in reply
    if format == "verbose_json":
        assert reply.duration == pytest.approx(2)
        assert reply.segments[0].text == "one two three four"
        assert reply.words is None
    if format == "srt":
        assert reply.startswith("1\n00:00:00,000 --> 00:00:0")
    if format == "vtt":
        assert reply.startswith("WEBVTT\n\n")


def test_word_times(sync, wav):
    reply = sync.audio.transcriptions.create(
        model="counter", file=("a.wav", wav), response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert [word.word for word in reply.words] == ["one", "two", "three", "four"]
    times = [time for word in reply.words for time in (word.start, word.end)]
    assert times == sorted(times)


def test_a_streamed_transcript(sync, wav):
    events = list(sync.audio.transcriptions.create(model="counter", file=("a.wav", wav), stream=True))
    assert events[-1].type == "transcript.text.done"
    deltas = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert deltas == events[-1].text == "one two three four"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_translations(sync, wav):
    assert sync.audio.translations.create(model="counter", file=("a.wav", wav)).text == "one two three four"


MAGIC = {
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
    "opus": (b"OggS",),
    "aac": (b"\xff\xf1", b"\xff\xf9"),
    "flac": (b"fLaC",),
    "wav": (b"RIFF",),
    "pcm": (b"",),
}


@pytest.mark.parametrize("format", MAGIC)
async def test_speech(sync, client, format):
    ask = {"model": "tts-1", "voice": "alloy", "input": "One two. Three four.", "response_format": format}
    whole = sync.audio.speech.create(**ask).content
    assert whole.startswith(MAGIC[format])
    assert len(whole) > 1000
    async with client.audio.speech.with_streaming_response.create(**ask) as response:
        pieces = [piece async for piece in response.iter_bytes()]
    assert b"".join(pieces).startswith(MAGIC[format])
    if format == "pcm":
        assert len(whole) == pytest.approx(2 * 24_000 * 1.2, rel=0.02)
