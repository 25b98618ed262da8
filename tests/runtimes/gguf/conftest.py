"""A tiny model of random weights for llama.cpp."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def load(tiny_model: Path) -> Iterator[Callable[..., Any]]:
    """Loads the tiny model with options, and closes what it loaded."""
    pytest.importorskip("llama_cpp")
    from llama_pajamas_run_gguf.llm import GGUFLLMBackend

    loaded: list[GGUFLLMBackend] = []

    def make(**options: Any) -> GGUFLLMBackend:
        settings = {"n_ctx": 512, "n_lanes": 4, "n_threads": 1, "kv_type": "f32", "flash_attention": False, **options}
        loaded.append(GGUFLLMBackend(settings.pop("model", tiny_model), **settings))
        return loaded[-1]

    yield make
    for backend in loaded:
        backend.close()


@pytest.fixture(params=[None, True], ids=["streams", "unified"])
def load_either(load: Callable[..., Any], request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The same, once with a KV cache in streams where it is large enough, and once with a unified one."""
    return lambda **options: load(**{"kv_unified": request.param, **options})
