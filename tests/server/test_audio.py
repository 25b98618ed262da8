"""``/v1/audio/*``."""

import asyncio
import base64
import json
import time
from itertools import pairwise

import httpx
import numpy as np
import pytest

from llama_pajamas_run_core.codecs.audio import decode_audio
from llama_pajamas_run_core.codecs.limits import Limits as DecodeLimits
from llama_pajamas_run_core.server.schemas.languages import language_code, language_name
from llama_pajamas_run_core.server.settings import Limits, Settings
from llama_pajamas_run_core.whisper.vocabulary import _LANGUAGES as whisper_languages

pytestmark = pytest.mark.anyio

HEAR = "/v1/audio/transcriptions"
SPEAK = "/v1/audio/speech"
TEN = " ".join(f"This is sentence number {i}." for i in range(10))


async def hear(client, wav, path=HEAR, **fields):
    return await client.post(path, data={"model": "counter", **fields}, files={"file": ("a.wav", wav, "audio/wav")})


async def test_json(client, wav):
    reply = (await hear(client, wav)).json()
    assert reply["text"] == "one two three four"
    assert reply["usage"] == {"type": "duration", "seconds": 2.0}


async def test_verbose_json(client, wav):
    reply = (await hear(client, wav, response_format="verbose_json")).json()
    assert (reply["task"], reply["language"], reply["duration"]) == ("transcribe", "english", 2.0)
    assert "words" not in reply
    (segment,) = reply["segments"]
    assert set(segment) == {
        "id",
        "seek",
        "start",
        "end",
        "text",
        "tokens",
        "temperature",
        "avg_logprob",
        "compression_ratio",
        "no_speech_prob",
    }
    assert isinstance(segment["end"], float)


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
async def test_words_only_where_asked_for(client, wav, name):
    reply = (await hear(client, wav, response_format="verbose_json", **{name: ["word"]})).json()
    assert [word["word"] for word in reply["words"]] == ["one", "two", "three", "four"]
    assert "segments" not in reply
    both = (await hear(client, wav, response_format="verbose_json", **{name: ["word", "segment"]})).json()
    assert both["words"]
    assert both["segments"]
    for before, after in pairwise(both["words"]):
        assert before["start"] <= before["end"] <= after["start"] + 1e-6


async def test_bare_text(client, wav):
    response = await hear(client, wav, response_format="text")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == "one two three four\n"
    srt = await hear(client, wav, response_format="srt")
    assert srt.text.startswith("1\n00:00:00,000 --> 00:00:0")
    vtt = await hear(client, wav, response_format="vtt")
    assert vtt.headers["content-type"].startswith("text/vtt")
    assert vtt.text.startswith("WEBVTT\n\n")


async def test_a_stream(client, wav):
    response = await hear(client, wav, stream="true")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n") if block]
    assert events[-1]["type"] == "transcript.text.done"
    assert "".join(event["delta"] for event in events[:-1]) == events[-1]["text"] == "one two three four"


async def test_translation_and_language(client, wav):
    reply = await hear(client, wav, "/v1/audio/translations", response_format="verbose_json", language="de")
    assert (reply.json()["task"], reply.json()["language"]) == ("translate", "german")
    for language in ("en", "EN-us", "English", ""):
        reply = await hear(client, wav, response_format="verbose_json", language=language)
        assert reply.json()["language"] == "english"


def test_every_language_of_whisper_has_its_name():
    for code in whisper_languages:
        name = language_name(code)
        assert name != code
        assert language_code(name) == language_code(code) == code
    assert language_name("ht") == "haitian creole"
    assert (language_code("pt_BR"), language_code(" zh-TW"), language_code("Klingon")) == ("pt", "zh", "klingon")


async def test_silence_is_no_text(client, wav):
    silence = wav[:44] + b"\0" * (len(wav) - 44)
    reply = await hear(client, silence)
    assert reply.json()["text"] == ""
    reply = await hear(client, silence, response_format="verbose_json")
    assert reply.json()["segments"] == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"language": "xx"}, "language"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"response_format": "xml"}, "response_format"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": "letter"}, "timestamp_granularities[]"),
        ({"stream": "true", "response_format": "srt"}, "response_format"),
        ({"model": "echo"}, "model"),
    ],
)
async def test_what_is_wrong_is_named(client, wav, fields, param):
    response = await hear(client, wav, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


async def test_files_that_are_no_audio(client, wav, png):
    for data in (b"", b"just some text", png(), wav[:20], b"RIFF\xff\xff\xff\xffWAVE", b"\0" * 5000):
        response = await hear(client, data)
        assert response.status_code == 400, data[:20]
        assert response.json()["error"]["type"] == "invalid_request_error"
    response = await client.post(HEAR, data={"model": "counter"})
    assert response.json()["error"]["param"] == "file"
    response = await client.post(HEAR, data={"model": "counter", "file": "text"})
    assert response.json()["error"]["param"] == "file"
    response = await client.post(HEAR, files={"file": wav})
    assert response.json()["error"]["param"] == "model"
    response = await client.post(HEAR, content=b"--x", headers={"content-type": "multipart/form-data; boundary=y"})
    assert response.status_code == 400
    response = await client.post(HEAR, content=b"--x", headers={"content-type": "multipart/form-data"})
    assert response.status_code == 400
    assert (await hear(client, wav, model="nothing")).status_code == 404
    assert (await hear(client, wav)).status_code == 200


async def test_an_upload_that_is_too_large(make_client, wav):
    client = await make_client(Settings(limits=Limits(upload=1000)))
    response = await hear(client, wav)
    assert response.status_code == 413
    assert response.json()["error"]["param"] == "file"


async def test_audio_that_unfolds_to_too_much(make_client, wav):
    client = await make_client(Settings(limits=Limits(decoded=DecodeLimits(audio_seconds=1.0))))
    response = await hear(client, wav)
    assert response.status_code == 413
    assert response.json()["error"]["param"] == "file"


async def test_eight_at_once_hear_the_same(client, wav):
    replies = await asyncio.gather(*(hear(client, wav) for _ in range(8)))
    assert {reply.json()["text"] for reply in replies} == {"one two three four"}


FORMATS = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


@pytest.mark.parametrize("format", FORMATS)
async def test_every_format_can_be_heard(client, format):
    body = {"model": "tones", "input": "One two three. Four five six.", "response_format": format}
    response = await client.post(SPEAK, json=body)
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == FORMATS[format]
    if format == "pcm":
        samples, rate = np.frombuffer(response.content, "<i2") / 32768, 24_000
    else:
        audio = decode_audio(response.content)
        samples, rate = audio.samples, audio.rate
    assert len(samples) / rate == pytest.approx(1.8, abs=0.15)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()] == pytest.approx(220, abs=8)


async def test_mp3_is_the_default_and_wav_is_pcm16(client):
    response = await client.post(SPEAK, json={"model": "tones", "input": "hello", "response_format": None})
    assert response.headers["content-type"] == "audio/mpeg"
    response = await client.post(SPEAK, json={"model": "tones", "input": "hello", "response_format": "wav"})
    assert response.content[:4] == b"RIFF"
    assert response.content[20:22] == b"\x01\x00"
    assert response.content[34:36] == b"\x10\x00"


async def test_voices(client):
    async def pitch(voice):
        body = {"model": "tones", "input": "one", "voice": voice, "response_format": "pcm"}
        response = await client.post(SPEAK, json=body)
        assert response.status_code == 200, response.text
        samples = np.frombuffer(response.content, "<i2")[:4000]
        return round(np.fft.rfftfreq(4000, 1 / 24_000)[np.abs(np.fft.rfft(samples)).argmax()] / 220)

    assert [await pitch(voice) for voice in ("low", "high", {"id": "high"}, "nova", "onyx", None)] == [1, 2, 2, 2, 1, 1]
    listed = (await client.get("/v1/audio/voices")).json()["data"]
    assert [voice["id"] for voice in listed] == ["low", "high"]
    assert (await client.get("/v1/audio/voices", params={"model": "tts-1"})).json()["data"] == listed
    assert (await client.get("/v1/audio/voices", params={"model": "none"})).status_code == 404
    response = await client.post(SPEAK, json={"model": "tones", "input": "x", "voice": "darth"})
    assert response.status_code == 400
    assert "low, high" in response.json()["error"]["message"]


async def test_speed(client):
    async def length(speed):
        body = {"model": "tones", "input": "one two three four", "speed": speed, "response_format": "pcm"}
        return len((await client.post(SPEAK, json=body)).content)

    assert await length(2.0) == pytest.approx(await length(1.0) / 2, rel=0.1)


async def test_events(client):
    body = {"model": "tones", "input": "One two.", "response_format": "pcm", "stream_format": "sse"}
    response = await client.post(SPEAK, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n") if block]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert events[-1]["type"] == "speech.audio.done"
    assert set(events[-1]["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == (await client.post(SPEAK, json={**body, "stream_format": "audio"})).content


STRANGE = ["🦙 🩳", "https://example.com/a?b=c#d 1,234.5", "你好。世界。", "word " * 819, "!!!", "\x00\u2028"]


@pytest.mark.parametrize("text", STRANGE)
async def test_strange_texts_do_not_break_it(client, text):
    for format in ("wav", "mp3"):
        response = await client.post(
            SPEAK, json={"model": "tones", "input": text, "response_format": format, "speed": 4}
        )
        assert response.status_code == 200
        assert len(response.content) > 40


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "  "}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"input": 5}, "input"),
        ({"speed": 5}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"response_format": "ogg"}, "response_format"),
        ({"stream_format": "ws"}, "stream_format"),
        ({"voice": 5}, "voice"),
        ({"model": "counter"}, "model"),
    ],
)
async def test_what_is_wrong_with_speech_is_named(client, more, param):
    response = await client.post(SPEAK, json={"model": "tones", "input": "x", **more})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("format", ["mp3", "wav", "pcm", "opus"])
async def test_the_first_sound_comes_before_the_last_sentence(make_live, format):
    live = make_live(options={"tones": {"pace": 0.05}})
    body = {"model": "tones", "input": TEN, "response_format": format}
    start = time.perf_counter()
    async with (
        httpx.AsyncClient(base_url=live.url) as client,
        client.stream("POST", SPEAK, json=body) as response,
    ):
        arrived = [time.perf_counter() - start async for _ in response.aiter_raw()]
    assert arrived[-1] > 0.5
    assert arrived[0] < 0.5 * arrived[-1]


async def test_an_error_after_the_first_sound_breaks_the_connection_off(make_live):
    live = make_live()
    body = {"model": "tones", "input": "Good words. fail later please.", "response_format": "pcm"}
    received = b""

    async def listen(client):
        nonlocal received
        async with client.stream("POST", SPEAK, json=body) as response:
            assert response.status_code == 200
            async for data in response.aiter_raw():
                received += data

    async with httpx.AsyncClient(base_url=live.url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await listen(client)
        assert received
        assert b"error" not in received
        assert (await client.post(SPEAK, json={**body, "input": "Good words."})).status_code == 200


async def test_a_listener_that_leaves_frees_the_voice(make_live):
    live = make_live(options={"tones": {"pace": 0.1}})
    body = {"model": "tones", "input": TEN * 3, "response_format": "pcm"}
    async with httpx.AsyncClient(base_url=live.url) as client:
        async with client.stream("POST", SPEAK, json=body) as response:
            async for _ in response.aiter_raw():
                break
        start = time.perf_counter()
        while not live.idle():
            assert time.perf_counter() - start < 1
            await asyncio.sleep(0.01)
        assert (await client.post(SPEAK, json={**body, "input": "Next."})).status_code == 200
        assert time.perf_counter() - start < 2
