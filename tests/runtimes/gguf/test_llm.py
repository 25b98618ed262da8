"""The GGUF language backend on real llama.cpp with a tiny model of random weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_gguf import write_tiny_gguf

from llama_pajamas_run_core.testing.llm import LLMContract

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.llm import GGUFLLMBackend


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


class TestGGUFLLM(LLMContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tiny_model: Path) -> Callable[[], GGUFLLMBackend]:
        return lambda: GGUFLLMBackend(tiny_model, n_ctx=512, n_lanes=4, n_threads=1, kv_type="f32")
