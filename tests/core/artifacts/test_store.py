"""The store: manifests, replacement, removal, and files that go missing."""

import json
import os

import pytest

from llama_pajamas_run_core.artifacts import places
from llama_pajamas_run_core.artifacts.store import Manifest, Store, StoredFile, safe_relative
from llama_pajamas_run_core.errors import BadInput, LoadError, UnknownModel
from llama_pajamas_run_core.types.tasks import Task


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def put(store, tmp_path, id="owner/name", content=b"abc", path="model.bin"):
    files = tmp_path / "incoming"
    files.mkdir()
    (files / "model.bin").write_bytes(content)
    listed = (StoredFile("model.bin", len(content), "0" * 64),)
    manifest = Manifest(id, "owner/name", "c" * 40, "gguf", Task.LLM, path, listed, 7, (f"{id}:x",))
    store.put(manifest, files)
    return manifest


def test_put_list_and_remove(store, tmp_path):
    assert store.manifests() == ()
    manifest = put(store, tmp_path)
    assert store.manifests() == (manifest,)
    assert store.manifests() is store.manifests()
    assert store.get("owner/name:x") == manifest
    assert store.path("owner/name").read_bytes() == b"abc"
    assert Store(store.root).manifests() == (manifest,)  # another process
    assert store.remove("owner/name") == manifest
    assert store.manifests() == ()
    assert not any(path.is_file() for path in store.root.rglob("*"))


def test_a_model_of_the_same_id_is_replaced(store, tmp_path):
    put(store, tmp_path)
    put(store, tmp_path, content=b"other")
    assert store.path("owner/name").read_bytes() == b"other"
    assert len(store.manifests()) == 1


def test_a_folder_as_a_model(store, tmp_path):
    put(store, tmp_path, path=".")
    assert store.path("owner/name").is_dir()


def test_ids_that_differ_in_case_or_signs_alone_do_not_mix(store, tmp_path):
    for id in ("owner/name", "Owner/name", "owner/name:Q4", "owner--name"):
        put(store, tmp_path, id, content=id.encode())
    for id in ("owner/name", "Owner/name", "owner/name:Q4", "owner--name"):
        assert store.path(id).read_bytes() == id.encode()
    assert len({folder.name.casefold() for folder in store.root.iterdir()}) == 5  # with .partial


def test_unknown_models(store, tmp_path):
    with pytest.raises(UnknownModel, match="No model was pulled yet"):
        store.get("x/y")
    put(store, tmp_path)
    with pytest.raises(UnknownModel, match="Available: owner/name"):
        store.remove("x/y")


def test_files_that_are_gone_or_cut(store, tmp_path):
    put(store, tmp_path)
    path = store.path("owner/name")
    path.write_bytes(b"ab")
    with pytest.raises(LoadError, match="is 2 bytes long instead of 3.*models pull owner/name"):
        store.path("owner/name")
    path.unlink()
    with pytest.raises(LoadError, match="is missing"):
        store.path("owner/name")


def test_broken_manifests_are_left_out(store, tmp_path, caplog):
    put(store, tmp_path)
    good = store.manifests()
    for name, text in {
        "a": "nonsense",
        "b": "{}",
        "c": json.dumps({"version": 99}),
        "d": good[0].to_json().replace('"llm"', '"dance"'),
        "e": "[]",
    }.items():
        (store.root / name).mkdir()
        (store.root / name / "manifest.json").write_text(text)
    (store.root / "stray").mkdir()
    (store.root / "stray.txt").touch()
    assert store.manifests() == good
    assert caplog.text.count("its manifest cannot be used") == 5
    assert Manifest.from_json(good[0].to_json()) == good[0]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "a\\b", "C:x", "", "a//b", "a\x00b", "x" * 401, "."])
def test_names_from_outside_stay_inside(name):
    with pytest.raises(BadInput, match="not allowed"):
        safe_relative(name)


def test_names_within_folders():
    assert safe_relative("onnx/model.onnx").as_posix() == "onnx/model.onnx"


def test_where_things_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path))
    assert Store().root == tmp_path / "models"
    assert places.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("LLAMA_PAJAMAS_HOME")
    monkeypatch.setattr(places.sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert places.data_dir() == tmp_path / "data" / "llama-pajamas"
    assert places.cache_dir() == places.Path.home() / ".cache" / "llama-pajamas"
    monkeypatch.setattr(places.sys, "platform", "darwin")
    assert places.data_dir().parts[-3:] == ("Library", "Application Support", "llama-pajamas")
    assert places.cache_dir().parts[-3:] == ("Library", "Caches", "llama-pajamas")
    monkeypatch.setattr(places.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", os.fspath(tmp_path / "Local"))
    assert places.data_dir() == tmp_path / "Local" / "llama-pajamas"
    assert places.cache_dir() == tmp_path / "Local" / "llama-pajamas" / "cache"
