"""Replies against the official client's own types, strictly: its client alone takes whatever comes."""

import json

import pytest
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.audio import TranscriptionVerbose
from openai.types.chat import ChatCompletion, ChatCompletionChunk

pytestmark = pytest.mark.anyio

TOOL = {"type": "function", "function": {"name": "lamp", "parameters": {"type": "object", "properties": {}}}}


def ask(text, **more):
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


@pytest.mark.parametrize(
    "body",
    [
        ask("hello"),
        ask("hello", n=2),
        ask("think: hello"),
        ask("use lamp", tools=[TOOL]),
        ask("hello", logprobs=True, top_logprobs=3),
        ask("hello", max_tokens=1),
    ],
)
async def test_chat(client, body):
    reply = await client.post("/v1/chat/completions", json=body)
    ChatCompletion.model_validate(reply.json())
    text = (await client.post("/v1/chat/completions", json={**body, "stream": True})).text
    for block in text.split("\n\n")[:-2]:
        ChatCompletionChunk.model_validate(json.loads(block.removeprefix("data: ")))


async def test_the_rest(client, wav):
    reply = await client.post("/v1/completions", json={"model": "echo", "prompt": "a b", "logprobs": 1})
    Completion.model_validate(reply.json())
    reply = await client.post("/v1/embeddings", json={"model": "echo", "input": ["a", "b"]})
    CreateEmbeddingResponse.model_validate(reply.json())
    for model in (await client.get("/v1/models")).json()["data"]:
        Model.model_validate(model)
    fields = {"model": "counter", "response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    reply = await client.post("/v1/audio/transcriptions", data=fields, files={"file": wav})
    TranscriptionVerbose.model_validate(reply.json())
