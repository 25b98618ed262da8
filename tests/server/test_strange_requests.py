"""Requests that nobody would write on purpose: good ones with something strange in a random place."""

import base64
import copy
import json
import random

import pytest

pytestmark = pytest.mark.anyio

TOOL = {
    "type": "function",
    "function": {"name": "lamp", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}, "required": ["a"]}
STRANGE = [
    None, True, False, 0, -1, 1, 2**63, 2**70, 10**400, -1.5, 3.0, 1e308, 1e-320, float("nan"), float("inf"),
    "", " ", "x", "\0", "\ud800", "a" * 5000, "..", "/", "{}", "5", "0x10", "\u00b2", "\u0967", "\u2028", "\U0001f999",
    "data:image/png;base64,", "data:,", "http://127.0.0.1/", "file:///etc/passwd", "echo", "counter",
    [], {}, [[]], [{}], [None], [0], [-1], ["a", 1], [2**70], [[1, 2], []], {"a": 1}, {"type": "text"}, {"$ref": "#"},
]  # fmt: skip


def requests(picture):
    """A good request for each endpoint that takes JSON."""
    parts = [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": picture, "detail": "low"}}]
    call = {"id": "c", "type": "function", "function": {"name": "lamp", "arguments": "{}"}}
    return {
        "/v1/chat/completions": {
            "model": "echo-omni",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": parts},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "on"},
            ],
            "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True, "n": 2, "seed": 1, "stop": ["x"],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
            "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "presence_penalty": 0.1, "logprobs": True,
            "top_logprobs": 2, "max_tokens": 5, "max_completion_tokens": 4, "logit_bias": {"5": 1}, "priority": 1,
        },
        "/v1/completions": {
            "model": "echo", "prompt": ["a", "b"], "echo": False, "n": 1, "logprobs": 1, "best_of": 1, "suffix": None,
            "max_tokens": 3, "stop": "x", "stream": True, "stream_options": {"include_usage": True},
        },
        "/v1/embeddings": {"model": "echo", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 4},
        "/v1/audio/speech": {
            "model": "tones", "input": "Hello.", "voice": {"id": "low"}, "response_format": "wav", "speed": 2.0,
            "stream_format": "audio", "language": "en",
        },
        "/v1/images/detect": {
            "model": "colour-segmenter", "image": picture, "confidence": 0.5, "iou": 0.5, "max_detections": 5,
            "classes": ["red", 1], "masks": "rle",
        },
        "/v1/images/classify": {"model": "colour-classifier", "image": picture, "top": 2},
        "/v1/images/embed": {"model": "colour-embedder", "image": [picture], "dimensions": 2},
        "/v1/detection": {"model": "colour-detector", "image": picture, "threshold": 0.5},
    }  # fmt: skip


def places(value, here=()):
    """Where something stands in a request."""
    if here:
        yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in inner:
        yield from places(member, (*here, key))


def spoil(chance, body):
    """Put something strange somewhere, take something away, or add something."""
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        *path, last = chance.choice(list(places(body)) or [("model",)])
        at = body
        for key in path:
            at = at[key]
        act = chance.random()
        if act < 0.7:
            at[last] = copy.deepcopy(chance.choice(STRANGE))
        elif act < 0.85:
            at.pop(last, None) if isinstance(at, dict) else at.pop(last)
        elif isinstance(at, list):
            at.append(copy.deepcopy(at[last]))
        else:
            at[chance.choice(("stream", "n", "input", "prompt", "$ref", "anyOf", "enum"))] = copy.deepcopy(
                chance.choice(STRANGE)
            )
    return body


@pytest.mark.parametrize("seed", range(4))
async def test_a_strange_request_is_served_or_refused_but_never_breaks_the_server(client, png, seed):
    chance = random.Random(seed)
    good = requests("data:image/png;base64," + base64.b64encode(png(20, 10, (2, 2, 9, 9))).decode())
    for path, body in good.items():
        assert (await client.post(path, json=body)).status_code == 200
    statuses = set()
    for _ in range(300):
        path = chance.choice(list(good))
        raw = json.dumps(spoil(chance, good[path]))
        response = await client.post(path, content=raw.encode(), headers={"content-type": "application/json"})
        statuses.add(response.status_code)
        assert response.status_code in (200, 400, 404, 413), (path, raw[:2000], response.text[:300])
        if response.status_code != 200:
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["type"] == "invalid_request_error"
            assert all(error[name] is None or isinstance(error[name], str) for name in ("param", "code"))
        elif response.headers["content-type"].startswith("text/event-stream"):
            assert response.text.endswith("data: [DONE]\n\n"), (raw[:2000], response.text[-300:])
    assert {200, 400} <= statuses
