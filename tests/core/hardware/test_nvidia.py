"""NVIDIA's probe on stand-ins for NVML: every way there can be no GPU has its reason."""

import sys

import pytest
from support.fake_nvml import GPU, NVML

from llama_pajamas_run_core.hardware import nvidia


@pytest.fixture(autouse=True)
def all_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_all_fields_of_a_gpu():
    nvml = NVML(GPU(memory=150_000, used=75_000))
    (gpu,), reason = nvidia.ask(nvml)
    assert reason is None
    assert (gpu.index, gpu.uuid, gpu.name, gpu.compute_capability) == (0, "GPU-0", "NVIDIA H200", (9, 0))
    assert (gpu.memory, gpu.memory_free, gpu.driver, gpu.cuda, gpu.integrated) == (
        150_000, 75_000, "580.82.07", (12, 8), False,
    )  # fmt: skip
    assert gpu.bus == "00000000:18:00.0"
    assert nvml.open == 0


def test_a_gpu_without_memory_of_its_own_has_the_hosts():
    (gpu,), _ = nvidia.ask(NVML(GPU(memory=None)))
    assert gpu.integrated
    assert gpu.memory > 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (12, "no NVIDIA driver is installed"),
        (9, "the NVIDIA driver is installed, but not loaded"),
        (4, "this user may not talk to the NVIDIA driver"),
        (18, "the NVIDIA driver was updated and needs a restart of the machine"),
        (999, "the NVIDIA driver does not answer: NVML error 999"),
    ],
)
def test_reasons_for_no_gpu(code, reason):
    assert nvidia.ask(NVML(init=code)) == ((), reason)


def test_a_driver_without_gpus():
    assert nvidia.ask(NVML()) == ((), "the NVIDIA driver sees no GPU")


def test_a_lost_gpu_does_not_hide_the_others():
    gpus, reason = nvidia.ask(NVML(GPU(lost=True), GPU("GPU-1")))
    assert [gpu.index for gpu in gpus] == [1]
    assert "GPU 0" in reason


def test_without_the_package_the_reason_is_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpus, reason = nvidia.probe_nvidia()
    assert gpus == ()
    assert reason == "the package nvidia-ml-py is not installed: `uv pip install nvidia-ml-py`"


@pytest.mark.gpu
def test_the_gpus_of_this_machine():
    gpus, reason = nvidia.probe_nvidia()
    assert gpus, reason
    assert all(gpu.memory >= gpu.memory_free > 0 and gpu.compute_capability >= (5, 0) for gpu in gpus)
