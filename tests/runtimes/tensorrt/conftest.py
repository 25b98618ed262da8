"""The SDK stood in for, in each version's flavour, and caches that are the tests' own."""

import pytest
from support import tensorrt_stand_in


@pytest.fixture(autouse=True, scope="module")
def _cache_of_a_module(tmp_path_factory):
    """What tests on a real GPU share, so that an engine is built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("LLAMA_PAJAMAS_TRUSTED_ENGINES", raising=False)
        yield


@pytest.fixture(autouse=True)
def _own_cache(request, tmp_path, monkeypatch):
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setenv("LLAMA_PAJAMAS_HOME", str(tmp_path / "home"))


@pytest.fixture(params=["8.6", "10", "11"])
def stand_in(request, monkeypatch, tmp_path):
    """TensorRT of each version in turn, PyCUDA and the driver, on ONNX Runtime and the host's memory."""
    return tensorrt_stand_in.install(request.param, monkeypatch, tmp_path / "sdk")
