"""Pulling from a hub: a small one on this machine that can be told to fail."""

import hashlib
import shutil
import sys
import threading
from collections import namedtuple

import pytest
from support.hub_server import COMMIT, Repo, running_hub
from support.model_files import onnx_bytes, safetensors_bytes, write_gguf

from llama_pajamas_run_core.artifacts import hub as module
from llama_pajamas_run_core.artifacts.catalogue import Catalogue
from llama_pajamas_run_core.artifacts.hub import pull
from llama_pajamas_run_core.artifacts.store import Store
from llama_pajamas_run_core.errors import (
    BadInput,
    LoadError,
    MissingDependency,
    UnknownModel,
    Unsupported,
    UserError,
)
from llama_pajamas_run_core.types.tasks import Task

MODEL = "owner/name"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("model") / "m.gguf", rows=20_000).read_bytes()


@pytest.fixture
def hub(content, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        files = {"m-Q4_K_M.gguf": content, "m-Q8_0.gguf": content[::-1], "README.md": b"# m"}
        running.repos[MODEL] = Repo(files)
        yield running


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "models")


def test_pulling_a_model(hub, store, content):
    seen = []
    manifest = pull(MODEL, store=store, progress=seen.append)
    assert (manifest.id, manifest.source, manifest.revision) == (MODEL, MODEL, COMMIT)
    assert (manifest.format, manifest.task, manifest.aliases) == ("gguf", Task.LLM, (f"{MODEL}:Q4_K_M",))
    assert [(file.path, file.sha256) for file in manifest.files] == [
        ("m-Q4_K_M.gguf", hashlib.sha256(content).hexdigest())
    ]
    assert store.path(MODEL).read_bytes() == content
    done = [step.done for step in seen]
    assert done == sorted(done)
    assert (done[0], done[-1], seen[-1].total) == (0, len(content), len(content))
    entry = Catalogue(store=store, packages=False).get(f"{MODEL}:Q4_K_M")
    assert (entry.id, entry.formats) == (MODEL, {"gguf"})
    assert [path.name for path in (store.root / ".partial").iterdir()] == []


def test_pulling_again_fetches_nothing(hub, store):
    first = pull(MODEL, store=store)
    count = len(hub.downloads)
    assert pull(MODEL, store=store) == first
    assert len(hub.downloads) == count


def test_a_new_revision_replaces_the_old(hub, store, content):
    pull(MODEL, store=store)
    changed = bytearray(content)
    changed[-1] ^= 1
    hub.repos[MODEL] = Repo({"m-Q4_K_M.gguf": bytes(changed)}, commit="f" * 40)
    assert pull(MODEL, store=store).revision == "f" * 40
    assert store.path(MODEL).read_bytes() == changed
    assert len(store.manifests()) == 1


def test_a_damaged_copy_is_mended(hub, store, content):
    pull(MODEL, store=store)
    store.path(MODEL).write_bytes(b"oops")
    pull(MODEL, store=store)
    assert store.path(MODEL).read_bytes() == content


def test_interruptions_are_resumed(hub, store, content):
    third = len(content) // 3
    hub.cuts = [third, third]
    pull(MODEL, store=store)
    assert store.path(MODEL).read_bytes() == content
    assert [range_ for _, path, range_ in hub.downloads if path.startswith("/cdn")] == [
        None, f"bytes={third}-", f"bytes={2 * third}-",
    ]  # fmt: skip


def test_a_pull_that_was_stopped_goes_on_where_it_ended(hub, store, content):
    class Stop(Exception):
        pass

    def stop(step):
        if step.done:
            raise Stop

    with pytest.raises(Stop):
        pull(MODEL, store=store, progress=stop)
    assert store.manifests() == ()
    (part,) = (store.root / ".partial").rglob("*.part")
    have = part.stat().st_size
    assert 0 < have < len(content)
    hub.requests.clear()
    pull(MODEL, store=store)
    assert store.path(MODEL).read_bytes() == content
    assert [range_ for _, path, range_ in hub.downloads if path.startswith("/cdn")] == [f"bytes={have}-"]


def test_a_storage_that_serves_no_ranges(hub, store, content):
    hub.ranges = False
    hub.cuts = [len(content) // 2]
    pull(MODEL, store=store)
    assert store.path(MODEL).read_bytes() == content


def test_refusals_that_pass(hub, store, content):
    hub.failures = [503, 500, 429]
    pull(MODEL, store=store)
    assert store.path(MODEL).read_bytes() == content


def test_a_connection_that_stays_broken(hub, store):
    hub.failures = [503] * 50
    with pytest.raises(
        LoadError, match=r"The connection to http://127\.0\.0\.1.* broke while m-Q4_K_M\.gguf.*Pull again"
    ):
        pull(MODEL, store=store)
    assert store.manifests() == ()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_storage_that_lacks_the_end_of_a_file(hub, store, ranges):
    hub.missing, hub.ranges = 100, ranges
    with pytest.raises(LoadError, match="broke while m-Q4_K_M.gguf was fetched: it ended early"):
        pull(MODEL, store=store)
    assert len(hub.downloads) < 20


@pytest.mark.parametrize("commit", ["../../../evil", "", "main", "/etc"])
def test_a_commit_may_not_lead_outside(hub, store, commit):
    hub.repos[MODEL].commit = commit
    with pytest.raises(LoadError, match="names no commit of owner/name"):
        pull(MODEL, store=store)
    assert not (store.root / ".partial").exists()


def test_a_name_that_no_request_could_carry(hub, store, content):
    """A model is asked for by what it was pulled as."""
    hub.repos["o/v"] = Repo({"a model.gguf": content, "model-b.gguf": content})
    with pytest.raises(BadInput, match="cannot be a model's name"):
        pull("o/v:a model", store=store)
    assert hub.downloads == []
    assert pull("o/v", store=store).aliases == ()
    assert [entry.id for entry in Catalogue(store=store, packages=False).entries()] == ["o/v"]


def test_a_folder_that_may_not_be_written(hub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/models cannot be written.*LLAMA_PAJAMAS_HOME"):
        pull(MODEL, store=Store(tmp_path / "file" / "models"))


def test_a_wrong_checksum(hub, store, content):
    hub.corrupt = True
    with pytest.raises(LoadError, match=r"m-Q4_K_M\.gguf of owner/name arrived damaged: its hash is .* instead of"):
        pull(MODEL, store=store)
    assert store.manifests() == ()
    hub.corrupt = False
    pull(MODEL, store=store)
    assert store.path(MODEL).read_bytes() == content


def test_small_files_are_verified_too(hub, store):
    hub.repos["o/v"] = Repo({"model.onnx": onnx_bytes(), "config.json": b'{"x": 1}'}, lfs=(".onnx",))
    assert pull("o/v", store=store).format == "onnx-vision"
    assert store.path("o/v").is_dir()
    hub.repos["o/w"] = Repo({"model.onnx": onnx_bytes(), "config.json": b'{"x": 1}'}, lfs=())
    hub.corrupt = True
    with pytest.raises(LoadError, match="arrived damaged"):
        pull("o/w", store=store)


def test_variants(hub, store, content):
    hub.repos[MODEL].files["m-Q8_0.gguf"] = content
    assert pull(f"{MODEL}:q8_0", store=store).files[0].path == "m-Q8_0.gguf"
    assert pull(MODEL, store=store, quantization="Q4_K_M").id == f"{MODEL}:Q4_K_M"
    with pytest.raises(BadInput, match="no quantization 'Q2_K'.*It has: Q8_0, Q4_K_M|Q4_K_M, Q8_0"):
        pull(f"{MODEL}:Q2_K", store=store)
    assert len(store.manifests()) == 2


def test_a_file_that_is_not_what_its_name_says(hub, store):
    with pytest.raises(BadInput, match="is no model"):
        pull(f"{MODEL}:Q8_0", store=store)
    assert store.manifests() == ()


def test_unknown_repositories_and_revisions(hub, store):
    with pytest.raises(UnknownModel, match="has no such repository, or it is private: then set HF_TOKEN"):
        pull("owner/absent", store=store)
    with pytest.raises(UnknownModel, match="has no such revision"):
        pull(MODEL, store=store, revision="v9")
    assert pull(MODEL, store=store, revision="main").revision == COMMIT


def test_gated_repositories(hub, store):
    hub.repos[MODEL].gated = True
    with pytest.raises(UserError, match=r"is gated.*Ask for access at http.*/owner/name, then set HF_TOKEN"):
        pull(MODEL, store=store)


def test_repositories_without_a_model(hub, store):
    hub.repos["o/t"] = Repo({"config.json": b"{}", "model.safetensors": safetensors_bytes()})
    with pytest.raises(Unsupported, match="training checkpoint"):
        pull("o/t", store=store)


@pytest.mark.parametrize("name", ["x", "a/b/c", "../b", "a/..", "a b/c", "", "/x", "http://127.0.0.1/x"])
def test_names_that_are_none(store, name):
    with pytest.raises(BadInput, match="is no model of a hub"):
        pull(name, store=store)


def test_names_in_a_repository_may_not_lead_outside(hub, store, content):
    hub.repos["o/evil"] = Repo({"../../m-Q4_K_M.gguf": content})
    with pytest.raises(BadInput, match="is not allowed"):
        pull("o/evil", store=store)


def test_a_full_disk(hub, store, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(
        UserError, match=r"needs 0\.00 GB more, but the disk of .* has 0\.00 GB free.*LLAMA_PAJAMAS_HOME"
    ):
        pull(MODEL, store=store)


def test_no_network(store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(LoadError, match=r"The hub at http://127\.0\.0\.1:9 cannot be reached.*set HF_ENDPOINT"):
        pull(MODEL, store=store)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LoadError, match="HF_HUB_OFFLINE is set"):
        pull(MODEL, store=store)


def test_a_model_that_is_here_serves_without_the_hub(hub, store, monkeypatch, caplog):
    manifest = pull(MODEL, store=store)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pull(MODEL, store=store) == manifest
    assert "is kept as it is" in caplog.text


def test_two_pulls_at_once_fetch_once(hub, store, content):
    found, errors = [], []

    def work():
        try:
            found.append(pull(MODEL, store=Store(store.root)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({manifest.created for manifest in found}) == 1
    assert len([path for _, path, _ in hub.downloads if path.startswith("/cdn")]) == 1
    assert store.path(MODEL).read_bytes() == content


def test_without_the_library(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"huggingface-hub.*uv pip install"):
        pull(MODEL, store=store)
