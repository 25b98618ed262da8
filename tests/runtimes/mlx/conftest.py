"""The starter models as MLX reads them."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def starter_chat() -> Path:
    """The folder of the starter chat model, which is a Hugging Face checkpoint."""
    starter = pytest.importorskip("llama_pajamas_starter.chat", reason="the starter models are not installed")
    if not (starter.checkpoint() / "model.safetensors").is_file():
        pytest.skip("this checkout has no starter chat model")
    return starter.checkpoint()


@pytest.fixture(scope="session")
def starter_gguf(starter_chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model for llama.cpp, in float16."""
    from llama_pajamas_starter.chat.to_gguf import convert

    return convert(starter_chat, tmp_path_factory.mktemp("starter") / "chat.gguf")
