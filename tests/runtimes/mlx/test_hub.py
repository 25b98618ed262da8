"""From a hub to an answer: folders as Hugging Face has them, and those made for MLX."""

from pathlib import Path

import pytest
from support.hub_server import Repo, running_hub

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed", exc_type=ImportError)

from llama_pajamas_run_core.artifacts.catalogue import Catalogue
from llama_pajamas_run_core.artifacts.hub import pull
from llama_pajamas_run_core.artifacts.store import Store
from llama_pajamas_run_core.errors import LoadError, Unsupported
from llama_pajamas_run_core.hardware.profiles import from_json
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.runtimes.discovery import installed
from llama_pajamas_run_core.selection.select import select
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_mlx.export import export
from llama_pajamas_run_mlx.llm import MLXLLMBackend

PROFILES = Path(__file__).parents[2] / "core" / "hardware" / "profiles"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def store(starter_chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """What was pulled: the starter model as Hugging Face has it, and a quantized one."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path / "home"))
    export(starter_chat, tmp_path / "small", bits=8, group_size=32, texts=["Hello!"])
    store = Store()
    with running_hub() as hub:
        tags = ("transformers", "safetensors", "qwen3", "text-generation")
        hub.repos["owner/plain"] = Repo(files(starter_chat) | {"consolidated.safetensors": b"again"}, tags=tags)
        hub.repos["owner/small"] = Repo(files(tmp_path / "small"), tags=("mlx", "text-generation"))
        for name in ("owner/plain", "owner/small"):
            pull(name, store=store, endpoint=hub.address)
    return store


def test_pulled_folders_are_loaded_by_their_ids(store: Store) -> None:
    assert [(one.id, one.format) for one in store.manifests()] == [
        ("owner/plain", "huggingface-llm"),
        ("owner/small", "mlx"),
    ]
    assert "consolidated.safetensors" not in {file.path for file in store.get("owner/plain").files}
    machine = Machine(Catalogue(store=store, packages=False))
    question, expected = "What is twelve plus thirty?", "Twelve plus thirty is forty-two."
    with machine.open(Task.LLM, "owner/plain", dtype="float32") as backend:
        assert isinstance(backend, MLXLLMBackend)
        assert backend.chat(question, temperature=0.0, max_tokens=40).text == expected
    with MLXLLMBackend("owner/small") as small:
        assert small.details["bits"] == 8
        assert small.chat(question, temperature=0.0, max_tokens=40).text == expected
    with pytest.raises(LoadError, match="models pull owner/other"):
        MLXLLMBackend("owner/other")


def test_the_selection_offers_mlx_for_them(store: Store) -> None:
    entry = Catalogue(store=store, packages=False).get("owner/plain")

    def choice(machine: str, **options):
        profile = from_json((PROFILES / f"{machine}.json").read_text("utf-8"))
        return select(profile, Task.LLM, installed(), sorted(entry.formats), **options)

    mac = choice("macbook-m3-max").require()
    assert (mac.runtime, mac.format) == ("mlx", "huggingface-llm")
    reasons = {one.runtime: one.reason for one in choice("macbook-m3-max").candidates}
    assert reasons["gguf"] == "the model is not available as gguf: it is huggingface-llm"
    with pytest.raises(Unsupported, match="MLX needs a Mac with Apple silicon, or Linux"):
        choice("desktop-rtx-4090-windows").require()
