"""The SDK stood in for, in each version's flavour, and a cache of its own for each test."""

import pytest
from support import tensorrt_stand_in


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LLAMA_PAJAMAS_TRUSTED_ENGINES", raising=False)


@pytest.fixture(params=["8.6", "10", "11"])
def stand_in(request, monkeypatch, tmp_path):
    """TensorRT of each version in turn, PyCUDA and the driver, on ONNX Runtime and the host's memory."""
    return tensorrt_stand_in.install(request.param, monkeypatch, tmp_path / "sdk")
