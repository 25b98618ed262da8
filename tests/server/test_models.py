"""Models, health, readiness, metrics, the index."""

import asyncio
import re
import threading

import httpx
import pytest

from llama_pajamas_run_core.artifacts.store import Manifest, StoredFile
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.types.tasks import Task

pytestmark = pytest.mark.anyio


async def test_the_list(client):
    reply = (await client.get("/v1/models")).json()
    assert reply["object"] == "list"
    known = {model["id"]: model for model in reply["data"]}
    assert {"echo", "counter", "tones", "colour-detector"} <= set(known)
    for model in known.values():
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"]
        assert model["runtime"] == "fake"
        assert (model["loaded"], model["state"]) == (False, "unloaded")
    assert known["counter"]["task"] == "stt"


async def test_the_list_shows_what_is_loaded(client):
    await client.post("/v1/completions", json={"model": "echo", "prompt": "x"})
    model = (await client.get("/v1/models/echo")).json()
    assert (model["loaded"], model["state"], model["device"]) == (True, "loaded", "imagination")
    assert (await client.get("/v1/models/gpt-4o")).json()["id"] == "echo"


async def test_ids_with_slashes(client):
    for path in ("/v1/models/team/echo-batch", "/v1/models/team%2Fecho-batch"):
        assert (await client.get(path)).json()["id"] == "team/echo-batch"


async def test_an_unknown_model(client):
    for name in ("nothing", "..%2F..%2Fetc%2Fpasswd", "a%00b", "%ff"):
        for ask in (client.get, client.delete):
            response = await ask(f"/v1/models/{name}")
            assert response.status_code == 404, name
            error = response.json()["error"]
            assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_models_of_packages_are_not_deleted(client):
    response = await client.delete("/v1/models/echo")
    assert response.status_code == 400
    assert "not pulled" in response.json()["error"]["message"]


@pytest.fixture
def pull(tmp_path):
    """Puts a model into the store of a client's server."""

    def put(client, id):
        files = tmp_path / "files"
        files.mkdir()
        (files / "model.gguf").write_bytes(b"abc")
        listed = (StoredFile("model.gguf", 3, "0" * 64),)
        manifest = Manifest(id, "team/made", "c" * 40, "gguf", Task.LLM, "model.gguf", listed, 7)
        store = services(client).catalogue.store
        store.put(manifest, files)
        return store

    return put


def services(client):
    return client._transport.app.state.services


async def test_a_pulled_model_is_deleted(client, pull):
    store = pull(client, "team/made")
    assert (await client.post("/v1/completions", json={"model": "team/made", "prompt": "x"})).status_code == 200
    response = await client.delete("/v1/models/team/made")
    assert response.json() == {"id": "team/made", "object": "model", "deleted": True}
    assert store.manifests() == ()
    assert services(client).pool.status() == ()
    assert (await client.delete("/v1/models/team/made")).status_code == 404


async def test_from_elsewhere_a_model_is_only_deleted_with_a_key(make_client, pull):
    for settings, status in ((Settings(), 403), (Settings(api_keys=("key",)), 200)):
        client = await make_client(settings)
        store = pull(client, "made")
        transport = httpx.ASGITransport(client._transport.app, client=("192.0.2.7", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as stranger:
            response = await stranger.delete("/v1/models/made", headers={"Authorization": "Bearer key"})
        assert response.status_code == status
        assert len(store.manifests()) == (status == 403)


async def test_the_list_waits_for_no_decoding(client):
    ended = threading.Event()
    decoding = [asyncio.create_task(services(client).workers.decode(ended.wait)) for _ in range(4)]
    await asyncio.sleep(0.05)
    try:
        response = await asyncio.wait_for(client.get("/v1/models"), 2)
        assert response.status_code == 200
    finally:
        ended.set()
    assert await asyncio.gather(*decoding) == [True] * 4


async def test_a_model_that_cannot_run_here_says_why(make_client, monkeypatch):
    from llama_pajamas_run_core.errors import Unsupported
    from llama_pajamas_run_core.pool import ModelPool

    client = await make_client()
    monkeypatch.setattr(ModelPool, "plan", lambda self, entry: (_ for _ in ()).throw(Unsupported("no runtime for it")))
    model = (await client.get("/v1/models/echo")).json()
    assert (model["state"], model["error"], model["runtime"]) == ("unavailable", "no runtime for it", None)


async def test_health_wakes_nothing(client):
    await client.get("/v1/models")
    await client.get("/metrics")
    reply = (await client.get("/health")).json()
    assert reply["status"] == "ok"
    assert reply["loaded"] == []
    assert reply["uptime"] >= 0
    assert reply["version"]


async def test_ready_only_after_preloading(make_client):
    client = await make_client(Settings(preload=("echo",)), options={"echo": {"load_seconds": 0.15}})
    response = await client.get("/ready")
    assert response.status_code == 503
    assert response.json()["error"]["message"] == "Loading model"
    assert (await client.get("/health")).status_code == 200
    for _ in range(100):
        if (await client.get("/ready")).status_code == 200:
            break
        await asyncio.sleep(0.01)
    assert (await client.get("/ready")).json() == {"status": "ready"}
    assert (await client.get("/health")).json()["loaded"] == ["echo"]


async def test_a_failed_preload_is_told(make_client):
    client = await make_client(Settings(preload=("echo",)), options={"echo": {"load_error": "broken"}})
    await asyncio.sleep(0.05)
    response = await client.get("/ready")
    assert response.status_code == 503
    assert "broken" in response.json()["error"]["message"]


async def test_a_preload_that_nobody_foresaw_is_told(make_client, monkeypatch):
    from llama_pajamas_run_core.pool import ModelPool

    async def broken(self, name, **how):
        raise RuntimeError("segmentation fault at 0x7f00")

    monkeypatch.setattr(ModelPool, "load", broken)
    client = await make_client(Settings(preload=("echo",)))
    await asyncio.sleep(0.05)
    response = await client.get("/ready")
    assert response.status_code == 503
    assert response.json()["error"]["message"] == "The server failed to handle the request."


async def test_metrics(make_client):
    client = await make_client()
    await client.post("/v1/completions", json={"model": "echo", "prompt": "a b c"})
    await client.get("/v1/models/some-secret-name")
    await client.get("/a-path-that-a-client-made-up")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    sample = re.compile(r'[a-z_]+(\{([a-z]+="[^"]*",?)*\})? [0-9.e+-]+')
    assert all(line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line) for line in lines)
    assert 'llama_pajamas_requests_total{path="/v1/completions",status="200"} 1' in lines
    assert 'llama_pajamas_tokens_total{kind="completion"} 3' in lines
    assert "llama_pajamas_models_loaded 1" in lines
    assert "secret" not in response.text
    assert "made-up" not in response.text
    off = await make_client(Settings(metrics=False))
    assert (await off.get("/metrics")).status_code == 404


async def test_the_index_and_the_description(client):
    index = (await client.get("/")).json()
    assert "POST /v1/chat/completions" in index["endpoints"]
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/v1/chat/completions", "/v1/audio/speech", "/v1/images/detect"} <= set(paths)
    for path in ("/v1/images/detect", "/v1/images/classify", "/v1/images/embed"):
        content = paths[path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
