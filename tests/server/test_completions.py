"""``/v1/completions``."""

import json

import pytest

pytestmark = pytest.mark.anyio

PATH = "/v1/completions"


def texts(reply):
    return [choice["text"] for choice in reply["choices"]]


async def test_a_reply_has_openais_shape(client):
    reply = (await client.post(PATH, json={"model": "echo", "prompt": "one two"})).json()
    assert reply["object"] == "text_completion"
    assert reply["id"].startswith("cmpl-")
    assert reply["choices"] == [{"index": 0, "text": "one two", "logprobs": None, "finish_reason": "stop"}]
    assert reply["usage"]["total_tokens"] == 4


async def test_prompts_of_all_kinds(client):
    async def ask(prompt, **more):
        return texts((await client.post(PATH, json={"model": "echo", "prompt": prompt, **more})).json())

    assert await ask(["a b", "c"]) == ["a b", "c"]
    assert await ask([5, 6]) == ["t5 t6"]
    assert await ask([[5], [6, 7]]) == ["t5", "t6 t7"]
    assert await ask(["a", "b"], n=2) == ["a", "a", "b", "b"]
    assert await ask("a b", echo=True) == ["a ba b"]


async def test_a_stream(client):
    body = {"model": "echo", "prompt": "one two", "stream": True, "stream_options": {"include_usage": True}}
    response = await client.post(PATH, json=body)
    blocks = [block.removeprefix("data: ") for block in response.text.split("\n\n") if block]
    assert blocks.pop() == "[DONE]"
    chunks = [json.loads(block) for block in blocks]
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == "one two"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


async def test_sixteen_tokens_unless_asked_otherwise(client):
    prompt = " ".join(map(str, range(40)))
    choice = (await client.post(PATH, json={"model": "echo", "prompt": prompt})).json()["choices"][0]
    assert len(choice["text"].split()) == 16
    assert choice["finish_reason"] == "length"
    choice = (await client.post(PATH, json={"model": "echo", "prompt": prompt, "max_tokens": 100})).json()["choices"][0]
    assert choice["text"] == prompt


async def test_logprobs(client):
    reply = (await client.post(PATH, json={"model": "echo", "prompt": "one two", "logprobs": 1})).json()
    report = reply["choices"][0]["logprobs"]
    assert report["tokens"] == ["one", " two"]
    assert report["text_offset"] == [0, 3]
    assert len(report["token_logprobs"]) == len(report["top_logprobs"]) == 2


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"logprobs": 6}, "logprobs"),
        ({"prompt": [1], "echo": True}, "echo"),
        ({"prompt": ["x"] * 100, "n": 8}, "n"),
    ],
)
async def test_what_is_wrong_is_named(client, more, param):
    response = await client.post(PATH, json={"model": "echo", "prompt": "x", **more})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(param)
