"""``/v1/chat/completions``: replies, streams, tools, formats, media, and what is refused."""

import asyncio
import base64
import json

import pytest
from jsonschema import validate

from llama_pajamas_run_core.server.schemas.json_schema import check_schema
from llama_pajamas_run_core.server.settings import Limits, Settings

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
TOOL = {
    "type": "function",
    "function": {
        "name": "switch_light",
        "description": "Switch a light.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}


def ask(text="hello big world", **more):
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


def events(response):
    """The events of a stream, which must be framed as they should."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def joined(chunks, index=0):
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(delta.get("content") or "" for delta in deltas)


async def refused(client, body, param, status=400):
    response = await client.post(PATH, json=body)
    error = response.json()["error"]
    assert response.status_code == status, response.text
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    return error


async def test_a_reply_has_openais_shape(client):
    response = await client.post(PATH, json=ask())
    reply = response.json()
    assert response.status_code == 200
    assert reply["id"].startswith("chatcmpl-")
    assert (reply["object"], reply["model"]) == ("chat.completion", "echo")
    assert isinstance(reply["created"], int)
    (choice,) = reply["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "hello big world"
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == 3


async def test_an_alias_answers_with_the_models_own_id(client):
    reply = (await client.post(PATH, json={**ask(), "model": "gpt-4o"})).json()
    assert reply["model"] == "echo"


async def test_a_stream_says_the_same_as_the_reply(client):
    text = "déjà vu, 你好 world 🦙🩳 and more"
    whole = (await client.post(PATH, json=ask(text))).json()["choices"][0]["message"]["content"]
    chunks = events(await client.post(PATH, json=ask(text, stream=True)))
    assert joined(chunks) == whole == text


async def test_a_streams_chunks_are_framed(client):
    chunks = events(await client.post(PATH, json=ask(stream=True)))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert all("role" not in delta for delta in deltas[1:])
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1)
    assert (reasons[-1], deltas[-1]) == ("stop", {})
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_comes_last_where_asked_for(client):
    chunks = events(await client.post(PATH, json=ask(stream=True, stream_options={"include_usage": True})))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_a_streams_headers_forbid_buffering(client):
    headers = (await client.post(PATH, json=ask(stream=True))).headers
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


async def test_unknown_and_null_fields_are_ignored(client):
    body = ask(
        stream=True,
        stream_options={"include_obfuscation": True},
        temperature=None,
        tools=None,
        stop=None,
        n=None,
        user="u",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        made_up={"deep": [1]},
    )
    assert joined(events(await client.post(PATH, json=body))) == "hello big world"


async def test_max_tokens_ends_with_length_and_the_new_name_wins(client):
    choice = (await client.post(PATH, json=ask(max_tokens=1))).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hello", "length")
    choice = (await client.post(PATH, json=ask(max_tokens=1, max_completion_tokens=2))).json()["choices"][0]
    assert choice["message"]["content"] == "hello big"


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_strings_are_not_part_of_the_answer(client, stream):
    body = ask("one two three four", stop=["x", "e th"], stream=stream)
    response = await client.post(PATH, json=ask("one two three four", stop=["x", "o th"], stream=stream))
    if stream:
        chunks = events(response)
        assert joined(chunks) == "one tw"
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        choice = response.json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("one tw", "stop")
    # A beginning that never becomes the stop string is given in the end.
    response = await client.post(PATH, json={**body, "stop": "four!"})
    text = joined(events(response)) if stream else response.json()["choices"][0]["message"]["content"]
    assert text == "one two three four"


@pytest.mark.parametrize("model", ["echo", "team/echo-batch"])
async def test_several_answers(client, model):
    reply = (await client.post(PATH, json={**ask(n=3), "model": model})).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in reply["choices"]} == {"hello big world"}
    assert reply["usage"]["completion_tokens"] == 9
    assert reply["usage"]["prompt_tokens"] == 4
    chunks = events(await client.post(PATH, json={**ask(n=3, stream=True), "model": model}))
    assert [joined(chunks, index) for index in range(3)] == ["hello big world"] * 3
    finished = [chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert sorted(finished) == [0, 1, 2]


async def test_several_streamed_answers_are_interleaved(make_client):
    client = await make_client(options={"team/echo-batch": {"pace": 0.005}})
    body = {**ask("a b c d e f g h", n=2, stream=True), "model": "team/echo-batch"}
    order = [chunk["choices"][0]["index"] for chunk in events(await client.post(PATH, json=body))]
    assert order != sorted(order)


async def test_tool_calls(client):
    body = ask("please switch_light on", tools=[TOOL])
    choice = (await client.post(PATH, json=body)).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "switch_light")
    assert isinstance(call["function"]["arguments"], str)
    validate(json.loads(call["function"]["arguments"]), TOOL["function"]["parameters"])


async def test_streamed_tool_calls(client):
    chunks = events(await client.post(PATH, json=ask("please switch_light on", tools=[TOOL], stream=True)))
    pieces = [p for chunk in chunks for p in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [piece["index"] for piece in pieces] == [0, 0]
    assert pieces[0]["id"]
    assert pieces[0]["type"] == "function"
    assert pieces[0]["function"]["name"] == "switch_light"
    assert set(pieces[1]) == {"index", "function"}
    assert set(pieces[1]["function"]) == {"arguments"}
    arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    assert json.loads(arguments) == {"text": "please switch_light on"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert joined(chunks) == ""


async def test_tool_choice(client):
    def called(response):
        return [c["function"]["name"] for c in response.json()["choices"][0]["message"].get("tool_calls", [])]

    named = {"type": "function", "function": {"name": "switch_light"}}
    assert called(await client.post(PATH, json=ask("hi", tools=[TOOL]))) == []
    assert called(await client.post(PATH, json=ask("hi", tools=[TOOL], tool_choice="required"))) == ["switch_light"]
    assert called(await client.post(PATH, json=ask("hi", tools=[TOOL], tool_choice=named))) == ["switch_light"]
    assert called(await client.post(PATH, json=ask("switch_light", tools=[TOOL], tool_choice="none"))) == []


async def test_text_streams_token_by_token_though_there_are_tools(client):
    chunks = events(await client.post(PATH, json=ask("one two three", tools=[TOOL], stream=True)))
    pieces = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert [piece for piece in pieces if piece] == ["one", " two", " three"]


async def test_a_conversation_with_tool_results(client):
    call = {"id": "c1", "type": "function", "function": {"name": "switch_light", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "light"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "the light is on"},
    ]
    reply = (await client.post(PATH, json={"model": "echo", "messages": messages, "tools": [TOOL]})).json()
    assert reply["choices"][0]["message"]["content"] == "the light is on"


async def test_response_formats(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["name", "count"],
    }
    named = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}
    reply = (await client.post(PATH, json=ask("x", response_format=named))).json()
    validate(json.loads(reply["choices"][0]["message"]["content"]), schema)
    reply = (await client.post(PATH, json=ask("x", response_format={"type": "json_object"}))).json()
    assert isinstance(json.loads(reply["choices"][0]["message"]["content"]), dict)
    reply = (await client.post(PATH, json=ask("x", response_format={"type": "text"}))).json()
    assert reply["choices"][0]["message"]["content"] == "x"


def test_references_within_a_schema():
    target = {"type": "string"}
    schema = {"$defs": {"a/b": target, "list": {"anyOf": [target, {"type": "null"}]}}}
    for good in ("#", "#/$defs/a~1b", "#/$defs/list/anyOf/1"):
        assert check_schema({**schema, "properties": {"x": {"$ref": good}}})
    for bad in ("#/$defs/c", "#/$defs/list/anyOf/2", "#/$defs/list/anyOf/-1", "#anchor", "other.json", "", 5):
        with pytest.raises(ValueError, match="'\\$ref' points .* at properties.x"):
            check_schema({**schema, "properties": {"x": {"$ref": bad}}})


@pytest.mark.parametrize("members", [[], {}, "x", None])
def test_an_enumeration_of_nothing_is_no_schema(members):
    with pytest.raises(ValueError, match="'enum' is a list of what may be at properties.x"):
        check_schema({"properties": {"x": {"enum": members}}})


async def test_logprobs(client):
    reply = (await client.post(PATH, json=ask("one two", logprobs=True, top_logprobs=2))).json()
    report = reply["choices"][0]["logprobs"]
    assert report["refusal"] is None
    assert [token["token"] for token in report["content"]] == ["one", " two"]
    for token in report["content"]:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert token["logprob"] <= 0
        assert len(token["top_logprobs"]) == 2
    chunks = events(await client.post(PATH, json=ask("one two", logprobs=True, stream=True)))
    told = [t["token"] for c in chunks if c["choices"][0]["logprobs"] for t in c["choices"][0]["logprobs"]["content"]]
    assert told == ["one", " two"]


async def test_reasoning_is_kept_apart(client):
    message = (await client.post(PATH, json=ask("think: hello"))).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("hello", "The person wants an echo.")
    chunks = events(await client.post(PATH, json=ask("think: hello", stream=True)))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "The person wants an echo."
    assert joined(chunks) == "hello"


async def test_pictures_and_sound(client, png, wav):
    picture = {"type": "image_url", "image_url": {"url": data_url(png(40, 20)), "detail": "low"}}
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav).decode(), "format": "wav"}}
    content = [{"type": "text", "text": "look"}, picture, sound]
    body = {"model": "echo-omni", "messages": [{"role": "user", "content": content}]}
    reply = (await client.post(PATH, json=body)).json()
    assert reply["choices"][0]["message"]["content"] == "look [image 40x20] [audio 2.0 s]"
    assert (await refused(client, {**body, "model": "echo"}, "messages[0].content"))["code"] == "unsupported"


def data_url(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


async def test_media_that_cannot_be_read(client, png):
    def body(url):
        part = {"type": "image_url", "image_url": {"url": url}}
        return {"model": "echo-omni", "messages": [{"role": "user", "content": [part]}]}

    where = "messages[0].content[0].image_url.url"
    for url in (
        "http://127.0.0.1:1/a.png",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "data:image/png,abc",
        "data:image/png;base64,%%%",
        "data:image/png;base64,",
        "",
    ):
        await refused(client, body(url), where)
    response = await client.post(PATH, json=body(data_url(png()[:60])))
    assert response.status_code == 400
    error = response.json()["error"]["message"]
    assert "0x" not in error
    assert "/" not in error.replace("and/or", "")


async def test_too_many_media(make_client, png):
    client = await make_client(Settings(limits=Limits(media=2)))
    part = {"type": "image_url", "image_url": {"url": data_url(png(4, 4))}}
    body = {"model": "echo-omni", "messages": [{"role": "user", "content": [part] * 3}]}
    await refused(client, body, "messages")


BAD = {
    "no messages": ({"model": "echo"}, "messages"),
    "empty messages": ({"model": "echo", "messages": []}, "messages"),
    "messages of a wrong type": ({"model": "echo", "messages": "hi"}, "messages"),
    "no model": ({"messages": [{"role": "user", "content": "hi"}]}, "model"),
    "unknown role": ({"model": "echo", "messages": [{"role": "alien", "content": "hi"}]}, "messages[0].role"),
    "no content": ({"model": "echo", "messages": [{"role": "user"}]}, "messages[0].content"),
    "content of a wrong type": ({"model": "echo", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    "unknown part": (
        {"model": "echo", "messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        "messages[0].content[0]",
    ),
    "part without text": (
        {"model": "echo", "messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    "tool without id": ({"model": "echo", "messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    "hot temperature": (ask(temperature=9), "temperature"),
    "temperature in words": (ask(temperature="hot"), "temperature"),
    "temperature as text": (ask(temperature="0.5"), "temperature"),
    "top_p": (ask(top_p=1.5), "top_p"),
    "penalty": (ask(presence_penalty=-3), "presence_penalty"),
    "max_tokens": (ask(max_tokens=0), "max_tokens"),
    "max_completion_tokens": (ask(max_completion_tokens=-1), "max_completion_tokens"),
    "n": (ask(n=9), "n"),
    "huge n": (ask(n=10**30), "n"),
    "no n": (ask(n=0), "n"),
    "five stops": (ask(stop=list("abcde")), "stop"),
    "top_logprobs alone": (ask(top_logprobs=2), "top_logprobs"),
    "too many top_logprobs": (ask(logprobs=True, top_logprobs=21), "top_logprobs"),
    "stream_options alone": (ask(stream_options={"include_usage": True}), "stream_options"),
    "stream as text": (ask(stream="yes"), "stream"),
    "bias key": (ask(logit_bias={"abc": 1}), "logit_bias"),
    "bias value": (ask(logit_bias={"5": 101}), "logit_bias.5"),
    "format": (ask(response_format={"type": "xml"}), "response_format.type"),
    "format without schema": (ask(response_format={"type": "json_schema"}), "response_format"),
    "schema": (
        ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "thing"}}}),
        "response_format.json_schema.schema",
    ),
    "reference": (
        ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/$defs/no"}}}),
        "response_format.json_schema.schema",
    ),
    "tool name": (ask(tools=[{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name"),
    "tool_choice": (ask(tools=[TOOL], tool_choice="maybe"), "tool_choice"),
    "unknown tool": (
        ask(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "other"}}),
        "tool_choice",
    ),
    "required without tools": (ask(tool_choice="required"), "tool_choice"),
    "functions": (ask(functions=[{"name": "old"}]), "functions"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_wrong_is_named(client, name):
    body, param = BAD[name]
    error = await refused(client, body, param)
    assert error["code"] is None or error["code"] == "unsupported"


async def test_a_whole_number_may_be_written_with_a_point(client):
    reply = (await client.post(PATH, json=ask(max_tokens=2.0, seed=1.0))).json()
    assert reply["choices"][0]["message"]["content"] == "hello big"


async def test_an_unknown_model(client):
    for name in ("nothing", "../../etc/passwd", "a" * 300, "C:\\x", "echo\x00", "/echo", "写"):
        error = await refused(client, {**ask(), "model": name}, "model", 404)
        assert error["code"] == "model_not_found"
        assert "echo" in error["message"]


async def test_a_model_for_another_task(client):
    error = await refused(client, {**ask(), "model": "whisper-1"}, "model")
    assert "speech to text" in error["message"]


async def test_a_prompt_that_is_too_long(make_client):
    client = await make_client(options={"echo": {"context": 10}})
    error = await refused(client, ask("word " * 50), "messages")
    assert error["code"] == "context_length_exceeded"
    assert "10" in error["message"]
    assert "53" in error["message"]


async def test_a_thousand_messages(client):
    messages = [{"role": "user" if i % 2 == 0 else "assistant", "content": f"m{i}"} for i in range(999)]
    reply = (await client.post(PATH, json={"model": "echo", "messages": messages})).json()
    assert reply["choices"][0]["message"]["content"] == "m998"


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800", "\\udfff\\ud800", "\\u0001\\u001f", "\\ufeff\\u2028"])
async def test_strange_characters_never_break_the_server(client, text):
    raw = '{"model": "echo", "messages": [{"role": "user", "content": "%s"}], "stream": %s}'
    for stream in ("false", "true"):
        content = (raw % (text, stream)).encode()
        response = await client.post(PATH, content=content, headers={"content-type": "application/json"})
        assert response.status_code in (200, 400)
    assert (await client.post(PATH, json=ask())).status_code == 200


async def test_concurrent_streams_are_isolated(client):
    async def one(index):
        text = " ".join(f"{index}-{word}" for word in range(20))
        body = {**ask(text, stream=True), "model": "team/echo-batch"}
        chunks = events(await client.post(PATH, json=body))
        assert joined(chunks) == text
        return chunks[0]["id"]

    ids = await asyncio.gather(*(one(index) for index in range(24)))
    assert len(set(ids)) == 24


async def test_a_failure_before_the_first_token_has_a_status(client):
    for stream in (False, True):
        response = await client.post(PATH, json=ask("fail now", stream=stream))
        assert response.status_code == 500
        error = response.json()["error"]
        assert error == {
            "message": "The model failed while running.",
            "type": "server_error",
            "param": None,
            "code": "inference_failed",
        }
        assert response.headers["x-should-retry"] == "false"


async def test_a_failure_in_the_stream_is_its_last_event(client):
    response = await client.post(PATH, json=ask("fail later one two three four", stream=True))
    blocks = [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n") if block]
    assert response.status_code == 200
    assert blocks[-1]["error"]["type"] == "server_error"
    assert set(blocks[-1]["error"]) == {"message", "type", "param", "code"}
    assert "0xdeadbeef" not in response.text
    assert not any(choice["finish_reason"] for block in blocks[:-1] for choice in block["choices"])
    assert (await client.post(PATH, json=ask())).status_code == 200
