"""The catalogue: what it lists, how it finds, and what it says where it does not."""

import json
import threading
import time
from importlib.metadata import EntryPoint

import pytest
from support.model_files import onnx_bytes, safetensors_bytes, write_gguf

from llama_pajamas_run_core.artifacts import catalogue as module
from llama_pajamas_run_core.artifacts.catalogue import Artifact, Catalogue, ModelEntry
from llama_pajamas_run_core.artifacts.store import Manifest, Store, StoredFile
from llama_pajamas_run_core.errors import BadInput, LoadError, UnknownModel
from llama_pajamas_run_core.types.tasks import Task


def entry(id, task=Task.LLM, **fields):
    return ModelEntry(id, task, (Artifact("gguf", lambda: None, 1),), **fields)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def empty(store):
    return Catalogue(store=store, packages=False)


def pulled(store, tmp_path, id="owner/name", aliases=()):
    files = tmp_path / f"files-{time.monotonic_ns()}"
    files.mkdir()
    path = write_gguf(files / "model.gguf")
    size = path.stat().st_size
    listed = (StoredFile("model.gguf", size, "0" * 64),)
    manifest = Manifest(id, "owner/name", "c" * 40, "gguf", Task.LLM, "model.gguf", listed, 1, aliases)
    store.put(manifest, files)
    return manifest


def test_the_models_that_packages_bring(store):
    models = Catalogue(store=store)
    assert models.get("system-voice").task is Task.TTS
    assert models.get("tts-1").id == "system-voice"
    assert models.default(Task.TTS).id == "system-voice"
    assert [one.id for one in models.entries()] == [one.id for one in Catalogue(store=store).entries()]


def test_a_broken_package_brings_nothing_and_harms_nobody(monkeypatch, store, caplog):
    points = [EntryPoint("a", "no_such_module:entries", module.GROUP), EntryPoint("b", "b:entries", module.GROUP)]
    monkeypatch.setattr(module, "entry_points", lambda group: points)
    real = EntryPoint.load
    monkeypatch.setattr(EntryPoint, "load", lambda point: (lambda: (entry("b"),)) if point.name == "b" else real(point))
    assert [one.id for one in Catalogue(store=store).entries()] == ["b"]
    assert "models of a could not be listed" in caplog.text


def test_unknown_models(empty):
    with pytest.raises(UnknownModel, match="llama-pajamas models pull"):
        empty.get("x")
    for name in ("starter-chat", "starter-speech", "other"):
        empty.add(entry(name))
    with pytest.raises(UnknownModel) as raised:
        empty.get("Starter-Chta")
    assert raised.value.available[0] == "starter-chat"
    assert set(raised.value.available) == {"starter-chat", "starter-speech", "other"}
    assert "Did you mean starter-chat" in str(raised.value)
    with pytest.raises(UnknownModel):
        empty.get("x" * 100_000)


def test_what_is_added_last_replaces_and_ids_win_over_aliases(empty):
    first, second = entry("a", description="1"), entry("a", description="2")
    empty.add(first)
    empty.add(second)
    empty.add(entry("b", aliases=("a", "c")))
    assert empty.get("a") is second
    assert empty.get("c").id == "b"


@pytest.mark.parametrize("id", ["", "-x", "a..b", "a b", "a\n", "../x", "ä", "a" * 202, "/x"])
def test_ids_that_are_refused(id):
    with pytest.raises(BadInput, match="cannot be a model's name"):
        entry(id)


def test_paths(empty, tmp_path):
    path = write_gguf(tmp_path / "My Model (v2).gguf")
    added = empty.add_path(path)
    assert added.id == "My-Model-v2"
    assert (added.task, added.formats, added.owned_by) == (Task.LLM, {"gguf"}, "user")
    assert added.artifact("gguf").materialize() == path
    assert added.artifact("gguf").size == path.stat().st_size
    with pytest.raises(BadInput, match="not available as onnx-vision: it is gguf"):
        added.artifact("onnx-vision")
    other = tmp_path / "other"
    other.mkdir()
    again = empty.add_path(write_gguf(other / "My Model (v2).gguf"))
    assert again.id == "My-Model-v2-2"
    assert empty.add_path(path).id == "My-Model-v2"
    assert empty.add_path(path, "mine").id == "mine"
    folder = tmp_path / "yolo"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx_bytes())
    assert empty.add_path(folder).task is Task.VISION
    assert empty.default(Task.VISION).id == "yolo"
    assert empty.default(Task.STT) is None


def test_naming_a_path_derives_no_model(empty, tmp_path):
    def derive():
        raise AssertionError("it takes seconds")

    empty.add(ModelEntry("m", Task.LLM, (Artifact("gguf", derive, 1),)))
    assert empty.add_path(write_gguf(tmp_path / "m.gguf")).id == "m-2"


def test_paths_that_come_at_once_get_names_of_their_own(empty, tmp_path):
    paths = []
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        paths.append(write_gguf(tmp_path / str(number) / "m.gguf"))
    start = threading.Barrier(len(paths))

    def add(path):
        start.wait(5)
        empty.add_path(path)

    threads = [threading.Thread(target=add, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.artifact("gguf").materialize() for one in empty.entries()} == set(paths)


def test_a_pulled_model_that_cannot_be_named_harms_nobody(empty, store, tmp_path, caplog):
    pulled(store, tmp_path, "owner/name:my model")
    pulled(store, tmp_path, "owner/other", aliases=("sp\u00e4t",))
    pulled(store, tmp_path, "owner/good")
    assert [one.id for one in empty.entries()] == ["owner/good"]
    assert "owner/name:my model is left out" in caplog.text


def test_paths_that_are_refused(empty, tmp_path):
    with pytest.raises(BadInput, match="There is no file"):
        empty.add_path(tmp_path / "absent.gguf")
    half = write_gguf(tmp_path / "half.gguf")
    half.write_bytes(half.read_bytes()[:300])
    with pytest.raises(LoadError, match=r"half\.gguf is a damaged GGUF file"):
        empty.add_path(half)
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(safetensors_bytes())
    with pytest.raises(BadInput, match="a safetensors file, which no backend loads as it is"):
        empty.add_path(weights)
    with pytest.raises(BadInput, match="cannot be a model's name"):
        empty.add_path(write_gguf(tmp_path / "x.gguf"), "../x")
    assert empty.entries() == ()


def test_defaults(store, monkeypatch):
    bring = (entry("a"), entry("b", default=True), entry("c", default=True))
    monkeypatch.setattr(module, "_package_entries", lambda: bring)
    models = Catalogue(store=store)
    assert models.default(Task.LLM).id == "b"
    assert models.default(Task.TTS) is None
    models.add(entry("d"))
    models.add(entry("e", default=True))
    assert models.default(Task.LLM).id == "e"


def test_defaults_by_ability(store, monkeypatch, tmp_path):
    bring = tuple(
        entry(ability, Task.VISION, default=True, abilities=frozenset({ability}))
        for ability in ("detect", "classify", "embed")
    )
    monkeypatch.setattr(module, "_package_entries", lambda: bring)
    models = Catalogue(store=store)
    assert models.default(Task.VISION).id == "detect"
    for ability in ("detect", "classify", "embed"):
        assert models.default(Task.VISION, ability).id == ability
    assert models.default(Task.VISION, "embed_text") is None
    path = tmp_path / "yolo.onnx"
    path.write_bytes(onnx_bytes(metadata={"task": "detect"}))
    assert models.add_path(path).abilities == {"detect"}
    assert models.default(Task.VISION).id == models.default(Task.VISION, "detect").id == "yolo"
    assert models.default(Task.VISION, "classify").id == "classify"
    path = tmp_path / "unknown.onnx"
    path.write_bytes(onnx_bytes())
    assert models.add_path(path).abilities == frozenset()
    assert models.default(Task.VISION, "classify").id == "unknown"


@pytest.mark.parametrize(
    ("config", "graphs", "expected"),
    [
        ({"task": "detection"}, ["model"], {"detect"}),
        ({"architectures": ["ViTForImageClassification"], "model_type": "vit"}, ["model"], {"classify"}),
        ({"model_type": "clip"}, ["vision_model", "text_model"], {"embed", "embed_text"}),
        ({}, ["model"], set()),
        ([], ["model"], set()),
    ],
)
def test_abilities_of_folders(empty, tmp_path, config, graphs, expected):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for graph in graphs:
        (tmp_path / f"{graph}.onnx").write_bytes(onnx_bytes())
    assert empty.add_path(tmp_path, "x").abilities == expected


def test_pulled_models_appear_at_once(empty, store, tmp_path):
    assert empty.entries() == ()
    manifest = pulled(store, tmp_path, aliases=("owner/name:Q4_K_M",))
    found = empty.get("owner/name")
    assert (found.task, found.owned_by, found.artifacts[0].size) == (Task.LLM, "owner", manifest.size)
    assert empty.get("owner/name:Q4_K_M") == found
    assert found.artifacts[0].materialize().name == "model.gguf"
    store.remove("owner/name")
    assert empty.entries() == ()
    with pytest.raises(UnknownModel):
        found.artifacts[0].materialize()


def test_threads_may_add_and_list(empty):
    def work(number):
        for index in range(50):
            empty.add(entry(f"m{number}-{index}"))
            empty.entries()
            empty.get(f"m{number}-{index}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(empty.entries()) == 400


def test_listing_is_cheap(empty, store, tmp_path):
    for number in range(20):
        pulled(store, tmp_path, f"owner/name{number}")
    empty.entries()
    start = time.perf_counter()
    for _ in range(20):
        assert len(empty.entries()) == 20
    assert (time.perf_counter() - start) / 20 < 0.1
