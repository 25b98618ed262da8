"""NVIDIA's probe on stand-ins for NVML: every way there can be no GPU has its reason."""

import sys
from types import SimpleNamespace

import pytest

from llama_pajamas_run_core.hardware import nvidia


class NVMLError(Exception):
    def __init__(self, value=999):
        super().__init__(f"NVML error {value}")
        self.value = value


class NotSupported(NVMLError):
    pass


class NVML:
    """What the probe uses of pynvml."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18

    def __init__(self, count=1, init=None, memory=None, broken=()):
        self.count, self.init, self.memory, self.broken, self.open = count, init, memory, broken, 0

    def nvmlInit(self):
        if self.init is not None:
            raise NVMLError(self.init)
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlSystemGetDriverVersion(self):
        return "580.82.07"

    def nvmlSystemGetCudaDriverVersion_v2(self):
        return 12080

    def nvmlDeviceGetCount(self):
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index):
        if index in self.broken:
            raise NVMLError(15)
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle):
        return b"NVIDIA H200"  # older versions of the package give bytes

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return [9, 0]

    def nvmlDeviceGetMemoryInfo(self, handle):
        if self.memory is None:
            raise NotSupported
        return SimpleNamespace(total=self.memory, free=self.memory // 2)


def test_all_fields_of_a_gpu():
    nvml = NVML(memory=150_000)
    (gpu,), reason = nvidia.ask(nvml)
    assert reason is None
    assert (gpu.index, gpu.uuid, gpu.name, gpu.compute_capability) == (0, "GPU-0", "NVIDIA H200", (9, 0))
    assert (gpu.memory, gpu.memory_free, gpu.driver, gpu.cuda, gpu.integrated) == (
        150_000, 75_000, "580.82.07", (12, 8), False,
    )  # fmt: skip
    assert nvml.open == 0


def test_a_gpu_without_memory_of_its_own_has_the_hosts():
    (gpu,), _ = nvidia.ask(NVML(memory=None))
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
    assert nvidia.ask(NVML(count=0)) == ((), "the NVIDIA driver sees no GPU")


def test_a_lost_gpu_does_not_hide_the_others():
    gpus, reason = nvidia.ask(NVML(count=2, memory=1000, broken=(0,)))
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
