"""What holds for every endpoint: error shapes, request ids, limits, keys, hosts, origins."""

import asyncio
import json

import pytest

from llama_pajamas_run_core import errors
from llama_pajamas_run_core.server import middleware
from llama_pajamas_run_core.server.errors import TooSlow, respond, row_of
from llama_pajamas_run_core.server.settings import Limits, Settings

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
BODY = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


def error_of(response):
    body = response.json()
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    assert response.headers["x-request-id"]
    return error


async def test_unknown_paths_and_wrong_methods(client):
    response = await client.get("/v1/nothing")
    assert response.status_code == 404
    assert error_of(response)["type"] == "invalid_request_error"
    response = await client.get(CHAT)
    assert response.status_code == 405
    assert "POST" in response.headers["allow"]
    assert error_of(response)["code"] == "method_not_allowed"
    assert (await client.options("/health")).status_code == 405


async def test_head_is_get_without_a_body(client):
    for path in ("/", "/health", "/ready", "/v1/models", "/v1/models/echo"):
        response = await client.head(path)
        assert response.status_code == 200
        assert response.content == b""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"null", "application/json"),
        (b"[]", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"model": NaN}', "application/json"),
        (json.dumps(BODY).encode(), "text/plain"),
        (json.dumps(BODY).encode(), "application/x-www-form-urlencoded"),
        (json.dumps(BODY).encode(), ""),
    ],
)
async def test_a_body_that_is_no_json_object(client, content, kind):
    for path in (CHAT, "/v1/images/classify"):
        response = await client.post(path, content=content, headers={"content-type": kind})
        assert response.status_code == 400, response.text
        assert error_of(response)["type"] == "invalid_request_error"


async def test_json_that_is_broken_says_so(client):
    response = await client.post(CHAT, content=b'{"model": ', headers={"content-type": "application/json"})
    assert "not valid JSON" in error_of(response)["message"]


async def test_request_ids(client):
    response = await client.get("/health", headers={"X-Request-Id": "my-id.1"})
    assert response.headers["x-request-id"] == "my-id.1"
    for bad in ("x" * 500, "a b", "a<script>"):
        made = (await client.get("/health", headers={"X-Request-Id": bad})).headers["x-request-id"]
        assert made.startswith("req_")
    assert int(response.headers["openai-processing-ms"]) >= 0


async def test_a_large_body_is_refused(make_client):
    client = await make_client(Settings(limits=Limits(body=10_000)))
    response = await client.post(CHAT, json={**BODY, "user": "x" * 20_000})
    assert response.status_code == 413
    assert error_of(response)["code"] == "too_large"

    sent = 0

    async def endless():
        nonlocal sent
        for _ in range(10_000):
            sent += 1000
            yield b" " * 1000

    response = await client.post(CHAT, content=endless(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert sent < 20_000  # it stopped reading
    error_of(response)
    assert (await client.post(CHAT, json=BODY)).status_code == 200


async def test_a_body_in_tiny_pieces(client):
    raw = json.dumps({**BODY, "user": "x" * 20_000}).encode()

    async def pieces():
        for index in range(len(raw)):
            yield raw[index : index + 1]

    response = await client.post(CHAT, content=pieces(), headers={"content-type": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize("length", [b"9" * 5000, b"9" * 20, "\u00b2".encode("latin-1"), b"-1", b"1e3"])
async def test_a_length_that_is_none_is_refused(client, length):
    response = await client.post(CHAT, content=b"{}", headers={b"content-length": length})
    assert response.status_code == 413
    error_of(response)


@pytest.mark.parametrize("path", [CHAT, "/v1/audio/transcriptions", "/v1/images/detect"])
@pytest.mark.parametrize("limit", ["silence", "all"])
async def test_a_body_that_does_not_come_is_not_waited_for(make_client, monkeypatch, path, limit):
    if limit == "silence":
        monkeypatch.setattr(middleware, "_SILENCE", 0.1)
    client = await make_client(Settings(request_timeout=600 if limit == "silence" else 0.15))
    kind = "application/json" if path == CHAT else "multipart/form-data; boundary=b"
    ended = asyncio.Event()

    async def drip():
        yield b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
        for _ in range(1000):
            yield b"x"
            if limit == "silence":
                await ended.wait()
            await asyncio.sleep(0.01)

    response = await asyncio.wait_for(client.post(path, content=drip(), headers={"content-type": kind}), 5)
    ended.set()
    assert response.status_code == 408
    assert response.headers["connection"] == "close"
    assert error_of(response)["code"] == "timeout"


async def test_compressed_bodies_are_not_unpacked(client):
    response = await client.post(CHAT, content=b"x", headers={"content-encoding": "gzip"})
    assert response.status_code == 415
    error_of(response)


async def test_keys(make_client):
    client = await make_client(Settings(api_keys=("secret-one", "secret-two")))
    response = await client.post(CHAT, json=BODY)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert error_of(response)["code"] is None
    for header in ("Bearer wrong", "Bearer secret-on", "bearer secret-one2", "Bearer s\u00e9"):
        response = await client.post(CHAT, json=BODY, headers={"Authorization": header.encode("latin-1")})
        assert response.status_code == 401
        assert error_of(response)["code"] == "invalid_api_key"
    for header in ("Basic secret-one", "secret-one", "Bearer "):
        assert (await client.post(CHAT, json=BODY, headers={"Authorization": header})).status_code == 401
    for header in ("Bearer secret-one", "bearer secret-two", "BEARER  secret-two"):
        assert (await client.post(CHAT, json=BODY, headers={"Authorization": header})).status_code == 200
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/v1/models")).status_code == 401
    assert (await client.get("/metrics")).status_code == 401


async def test_keys_may_have_any_letters_but_no_spaces_around(make_client):
    client = await make_client(Settings(api_keys=("schl\u00fcssel",)))
    for given, status in (("schl\u00fcssel".encode(), 200), ("schl\u00fcssel".encode("latin-1"), 401)):
        response = await client.post(CHAT, json=BODY, headers={"Authorization": b"Bearer " + given})
        assert response.status_code == status
    for key in ("", " ", "key "):
        with pytest.raises(errors.BadInput, match="empty or has spaces"):
            Settings(api_keys=("fine", key))


async def test_keys_are_not_shown():
    assert "secret" not in repr(Settings(api_keys=("secret",)))


async def test_names_of_the_host(make_client):
    client = await make_client()
    for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:80", "localhost."):
        assert (await client.get("/health", headers={"host": host})).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:8000"):
        response = await client.get("/health", headers={"host": host})
        assert response.status_code == 403, host
        error_of(response)
    open_ = await make_client(Settings(host="0.0.0.0", api_keys=("k",)))
    assert (await open_.get("/health", headers={"host": "anything.example"})).status_code == 200
    named = await make_client(Settings(allowed_hosts=("my.example",)))
    assert (await named.get("/health", headers={"host": "my.example:443"})).status_code == 200


async def test_pages_of_other_origins(make_client):
    client = await make_client()
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "http://[", "http://[::1"):
        response = await client.post(CHAT, json=BODY, headers={"origin": origin})
        assert response.status_code == 403
        error_of(response)
    assert (await client.post(CHAT, json=BODY, headers={"origin": "http://127.0.0.1"})).status_code == 200
    assert "access-control-allow-origin" not in (await client.get("/health")).headers
    shared = await make_client(Settings(cors_origins=("https://App.example/",)))
    headers = {"origin": "https://app.example"}
    response = await shared.post(CHAT, json=BODY, headers=headers)
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    preflight = {**headers, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert (await shared.options(CHAT, headers=preflight)).status_code == 200
    assert (await shared.post(CHAT, json=BODY, headers={"origin": "https://evil.example"})).status_code == 403


async def test_a_failing_route_tells_nothing(make_client, monkeypatch):
    client = await make_client()

    def broken(*_):
        raise RuntimeError("/home/secret/file.py at 0x7f001122")

    monkeypatch.setattr("llama_pajamas_run_core.pool.ModelPool.status", broken)
    response = await client.get("/health")
    assert response.status_code == 500
    error = error_of(response)
    assert error == {
        "message": "The server failed to handle the request.",
        "type": "server_error",
        "param": None,
        "code": None,
    }


async def test_a_busy_model(make_client):
    client = await make_client(Settings(queue_timeout=0.01), options={"echo": {"load_seconds": 0.3}})
    response = await client.post(CHAT, json=BODY)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "x-should-retry" not in response.headers
    assert error_of(response)["code"] == "overloaded"


async def test_a_model_that_cannot_be_loaded(make_client):
    client = await make_client(options={"echo": {"load_error": "the file ends after 12 of 40 bytes"}})
    for _ in range(2):
        response = await client.post(CHAT, json=BODY)
        assert response.status_code == 503
        assert response.headers["x-should-retry"] == "false"
        assert 1 <= int(response.headers["retry-after"]) <= 10
        error = error_of(response)
        assert error["code"] == "model_load_failed"
        name, _, rest = error["message"].partition(": ")
        assert "/" not in name  # the file's name without its folders
        assert rest.startswith("the file ends")


async def test_a_request_that_takes_too_long(make_client):
    client = await make_client(Settings(request_timeout=0.05), options={"echo": {"pace": 0.04}})
    response = await client.post(CHAT, json={**BODY, "messages": [{"role": "user", "content": "a b c d e"}]})
    assert response.status_code == 504
    assert error_of(response)["code"] == "timeout"


STATUSES = [
    (errors.UnknownModel("x"), 404),
    (errors.BadInput("x"), 400),
    (TooSlow("x"), 408),
    (errors.ContextTooLong(tokens=2, limit=1), 400),
    (errors.TooLarge("x"), 413),
    (errors.Unsupported("x"), 400),
    (errors.MissingDependency("x", package="p", install="pip install p"), 501),
    (errors.UserError("x"), 400),
    (errors.Busy("x", retry_after=2.5), 503),
    (errors.OutOfMemory("x"), 503),
    (errors.LoadError("x"), 503),
    (errors.InferenceError("x"), 500),
    (errors.Cancelled("x"), 503),
    (errors.PajamasError("x"), 500),
    (ValueError("x"), 500),
]


@pytest.mark.parametrize(("error", "status"), STATUSES, ids=lambda value: type(value).__name__)
async def test_every_error_has_its_status(error, status):
    assert row_of(error).status == status
    response = respond(error)
    assert response.status_code == status
    if isinstance(error, (errors.LoadError, errors.InferenceError)):  # clients must not retry by themselves
        assert response.headers["x-should-retry"] == "false"
    if isinstance(error, errors.Busy):
        assert response.headers["retry-after"] == "3"
    if isinstance(error, errors.MissingDependency):
        assert "pip install p" in json.loads(response.body)["error"]["message"]
