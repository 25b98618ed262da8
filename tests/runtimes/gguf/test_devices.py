"""Which GPU a language model is loaded on, with stand-ins for the GPUs that llama.cpp sees."""

import pytest
from support.fake_nvml import GPU as Card
from support.fake_nvml import NVML

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware import nvidia
from llama_pajamas_run_gguf import devices
from llama_pajamas_run_gguf.devices import GPU
from llama_pajamas_run_gguf.llm import GGUFLLMBackend


@pytest.fixture
def two(monkeypatch):
    there = [GPU(11, "CUDA0", "0000:18:00.0", 100), GPU(12, "CUDA1", "0000:3b:00.0", 70)]
    cards = NVML(Card("GPU-b", bus="00000000:3B:00.0"), Card("GPU-a", bus="00000000:18:00.0"))
    monkeypatch.setattr(devices, "gpus", lambda: there)
    monkeypatch.setattr(devices, "probe_nvidia", lambda: nvidia.ask(cards, {}))
    return there


def test_a_gpu_by_any_of_its_names(two):
    for name in ("GPU-b", "0000:3B:00.0", "00000000:3b:00.0", "CUDA1", "1"):
        assert devices.find_gpu(name) is two[1], name
    assert devices.find_gpu("GPU-a") is two[0]
    assert devices.find_gpu(None) is None
    with pytest.raises(BadInput, match=r"no GPU 'GPU-c'; it sees CUDA0 \(0000:18:00.0\), CUDA1"):
        devices.find_gpu("GPU-c")


def test_the_memory_of_one_or_of_all(two):
    assert devices.gpu_memory_free() == 170
    assert devices.gpu_memory_free(two[1]) == 70


def test_a_gpu_without_an_address_is_not_mistaken_for_another(monkeypatch, two):
    monkeypatch.setattr(devices, "gpus", lambda: [GPU(1, "Vulkan0", "", 1)])
    with pytest.raises(BadInput, match="it sees Vulkan0"):
        devices.find_gpu("GPU-x")


@pytest.mark.skipif(bool(devices.gpus()), reason="this llama.cpp was built for GPUs")
def test_where_llama_cpp_has_no_gpus_the_option_has_no_effect(tiny_model):
    assert devices.find_gpu("GPU-x") is None
    with GGUFLLMBackend(tiny_model, device="GPU-x", n_ctx=256) as llm:
        assert llm.details["device"] == "cpu"
        assert "gpu" not in llm.details


@pytest.mark.gpu
@pytest.mark.skipif(not devices.gpus(), reason="this llama.cpp was built for no GPU")
def test_a_model_on_one_gpu(tiny_model):
    gpus, _ = nvidia.probe_nvidia()
    with GGUFLLMBackend(tiny_model, device=gpus[-1].uuid, n_ctx=256) as llm:
        assert llm.details["device"] == "gpu"
        assert llm.details["gpu"] == devices.find_gpu(gpus[-1].uuid).name
        assert llm.generate("a b c", max_tokens=4).usage.completion_tokens > 0
