"""Streams over a real socket: timing, keep-alive, clients that leave, many at once."""

import asyncio
import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from support.waiting import until

from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.types.tasks import Task

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


def ask(text, model="echo", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def test_tokens_are_sent_as_they_come(make_live):
    live = make_live(options={"echo": {"pace": 0.03}})
    times = []
    async with (
        httpx.AsyncClient(base_url=live.url) as client,
        client.stream("POST", CHAT, json=ask("a b c d e f g h", stream=True)) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                times.append(time.perf_counter())
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert times[-1] - times[0] > 0.15
    assert max(gaps) < 0.5 * (times[-1] - times[0])


async def test_an_event_is_one_line_by_every_count(make_client):
    client = await make_client()
    text = "one\u2028two three\x85four five\u2029six"
    response = await client.post(CHAT, json=ask(text, stream=True))
    lines = response.text.splitlines()  # unlike JSON, takes more characters than \n for the end of a line
    assert all(line == "" or line.startswith("data: ") for line in lines)
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text


async def test_silence_is_broken_by_a_comment(make_live):
    live = make_live(Settings(port=0, sse_silence=0.05), options={"echo": {"pace": 0.12, "load_seconds": 0.2}})
    async with httpx.AsyncClient(base_url=live.url) as client:
        text = (await client.post(CHAT, json=ask("a b c", stream=True))).text
    assert text.count(": ping\n\n") >= 4
    chunks = [json.loads(block[6:]) for block in text.split("\n\n") if block.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "a b c"
    assert text.endswith("data: [DONE]\n\n")


async def test_silence_may_be_broken_by_an_empty_chunk_or_not_at_all(make_client):
    for mode in ("chunk", "off"):
        settings = Settings(sse_silence=0.03, sse_keep_alive=mode)
        client = await make_client(settings, options={"echo": {"pace": 0.08}})
        text = (await client.post(CHAT, json=ask("a b c", stream=True))).text
        assert ": ping" not in text
        chunks = [json.loads(block[6:]) for block in text.split("\n\n") if block.startswith("data: {")]
        assert len({chunk["id"] for chunk in chunks}) == 1
        empty = [chunk for chunk in chunks if chunk["choices"][0]["delta"] == {}]
        assert (len(empty) > 1) == (mode == "chunk")


async def test_an_error_after_the_silence_was_broken_is_an_event(make_client):
    options = {"echo": {"load_seconds": 0.1, "load_error": "broken file"}}
    client = await make_client(Settings(sse_silence=0.02), options=options)
    response = await client.post(CHAT, json=ask("a", stream=True))
    assert response.status_code == 200
    assert "broken file" in json.loads(response.text.split("\n\n")[-2][6:])["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_lane(make_live, stream):
    live = make_live(options={"echo": {"pace": 0.02}})
    text = "word " * 1000  # twenty seconds
    async with httpx.AsyncClient(base_url=live.url, timeout=30) as client:
        if stream:
            async with client.stream("POST", CHAT, json=ask(text, stream=True)) as response:
                async for line in response.aiter_lines():
                    if "word" in line:
                        break
        else:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(CHAT, json=ask(text), timeout=0.3)
        freed = await until(live.idle, 2)
        assert freed < 0.5
        start = time.perf_counter()
        assert (await client.post(CHAT, json=ask("next"))).status_code == 200
        assert time.perf_counter() - start < 1
        assert "llama_pajamas_disconnects_total 1" in (await client.get("/metrics")).text
    with live.pool.use("echo", Task.LLM) as llm:
        assert llm.steps < 100  # the model itself stopped, too


async def test_a_client_that_leaves_the_queue_frees_its_place(make_live):
    live = make_live(options={"echo": {"pace": 0.02}})
    async with httpx.AsyncClient(base_url=live.url, timeout=30) as client:
        first = asyncio.create_task(client.post(CHAT, json=ask("word " * 60)))
        await until(lambda: any(status.users for status in live.pool.status()), 2)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=ask("hello"), timeout=0.2)
        await until(lambda: not any(status.waiting for status in live.pool.status()), 1)
        assert (await first).status_code == 200


async def test_a_client_that_leaves_in_the_middle_of_its_upload(live):
    parts = urlsplit(live.url)
    for sent in (b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n", None):
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            head = sent or (
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            )
            connection.sendall(head)
    async with httpx.AsyncClient(base_url=live.url) as client:
        assert (await client.post(CHAT, json=ask("still there"))).status_code == 200


async def test_many_clients_that_come_and_go(make_live):
    live = make_live(options={"team/echo-batch": {"pace": 0.002, "lanes": 8}})

    async def one(client, index):
        text = " ".join(f"{index}w{word}" for word in range(30))
        body = ask(text, model="team/echo-batch", stream=True)
        got = ""
        async with client.stream("POST", CHAT, json=body) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    got += delta.get("content", "")
                    if index % 3 == 0 and len(got) > 40:
                        return None
        assert got == text
        return got

    async with httpx.AsyncClient(base_url=live.url, timeout=30, limits=httpx.Limits(max_connections=100)) as client:
        answers = await asyncio.gather(*(one(client, index) for index in range(60)))
    assert sum(answer is None for answer in answers) == 20
    assert await until(live.idle, 2) < 2
