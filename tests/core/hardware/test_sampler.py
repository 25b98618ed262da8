"""Readings: facts or reasons, whatever the driver and the system do."""

import json
import sys
from types import SimpleNamespace

import pytest
from support.fake_nvml import GPU, NVML, Part

from llama_pajamas_run_core.hardware.host import HostSampler
from llama_pajamas_run_core.hardware.sampler import Sampler


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def sampler(nvml, **more):
    return Sampler(nvml=nvml, environ=more.pop("environ", {}), **more)


def test_all_fields_of_a_gpu():
    gpu = GPU(
        memory=1000, used=910, utilization=73, temperature=86, power=650_500, throttling=0x01 | 0x04 | 0x20 | 0x40
    )
    nvml = NVML(gpu)
    readings = sampler(nvml)
    reading = readings.read()
    (found,) = reading.gpus
    assert (found.index, found.uuid, found.name) == (0, "GPU-0", "NVIDIA H200")
    assert (found.memory, found.memory_used, found.memory_free, found.memory_share) == (1000, 910, 90, 0.91)
    assert (found.utilization, found.temperature, found.power, found.power_limit) == (0.73, 86.0, 650.5, 700.0)
    assert (found.clock, found.memory_clock) == (1.98e9, 3.201e9)
    assert found.throttling == ("power_cap", "thermal_software", "thermal_hardware")
    assert found.too_hot
    assert found.missing == {}
    assert reading.notes == {}
    assert nvml.open == 1
    readings.close()
    readings.close()
    assert nvml.open == 0


def test_a_field_that_is_not_told_is_missing_with_the_reason():
    (found,) = sampler(NVML(GPU(power=None, temperature=None, memory=None))).read().gpus
    assert (found.power, found.temperature, found.memory_share) == (None, None, None)
    assert found.missing["power"] == "NVML error 3"
    assert found.missing["memory"] == "it shares the host's memory"
    assert found.utilization == 0.0


def test_an_idle_gpu_does_not_throttle():
    (found,) = sampler(NVML(GPU(throttling=0x01))).read().gpus
    assert found.throttling == ()
    assert not found.too_hot


def test_only_the_gpus_of_this_process_are_read():
    two = (GPU("GPU-a"), GPU("GPU-b"))
    reading = sampler(NVML(*two), environ={"CUDA_VISIBLE_DEVICES": "GPU-b"}).read()
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-b"]
    assert reading.notes == {"nvidia": "CUDA_VISIBLE_DEVICES=GPU-b hides 1 of 2 GPUs"}


def test_a_part_of_a_gpu_is_read():
    divided = GPU("GPU-m", parts=(Part("MIG-1", 100),))
    (found,) = sampler(NVML(divided)).read().gpus
    assert (found.uuid, found.memory, found.memory_used) == ("MIG-1", 100, 0)
    assert set(found.missing) == {
        "utilization", "temperature", "power", "power_limit", "clock", "memory_clock", "throttling",
    }  # fmt: skip


def test_a_gpu_that_falls_off_the_bus_is_a_reason_and_comes_back():
    nvml = NVML(GPU("GPU-0"), GPU("GPU-1"))
    readings = sampler(nvml)
    assert len(readings.read().gpus) == 2
    nvml.gpus[0].lost = True
    reading = readings.read()
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-1"]
    assert reading.notes == {"GPU 0": "NVML error 15"}
    nvml.gpus[0].lost = False
    assert len(readings.read().gpus) == 2
    assert readings.read().notes == {}


def test_a_driver_that_does_not_answer_is_asked_again_after_a_minute():
    clock = Clock()
    nvml = NVML(GPU(), init=9)
    readings = sampler(nvml, clock=clock)
    for _ in range(3):
        reading = readings.read()
        assert (reading.gpus, reading.notes) == ((), {"nvidia": "the NVIDIA driver is installed, but not loaded"})
    assert nvml.calls == 1
    nvml.init = None
    clock.now += 60
    assert len(readings.read().gpus) == 1


def test_where_every_gpu_is_lost_the_driver_is_opened_anew():
    clock = Clock()
    nvml = NVML(GPU(lost=False))
    readings = sampler(nvml, clock=clock)
    assert len(readings.read().gpus) == 1
    nvml.gpus[0].lost = True
    assert readings.read().notes == {"GPU 0": "NVML error 15"}
    assert nvml.open == 0
    assert readings.read().notes == {"GPU 0": "NVML error 15"}
    nvml.gpus[0] = GPU("GPU-after-a-reset")
    clock.now += 60
    assert [gpu.uuid for gpu in readings.read().gpus] == ["GPU-after-a-reset"]


@pytest.mark.parametrize("broken", ["nvmlDeviceGetCount", "nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_nothing_that_a_driver_does_raises(broken, monkeypatch):
    nvml = NVML(GPU())

    def fail(*_):
        raise RuntimeError("the driver is mad")

    monkeypatch.setattr(nvml, broken, fail)
    reading = sampler(nvml).read()
    assert reading.gpus == ()
    assert reading.notes == {"nvidia": "the reading failed: RuntimeError: the driver is mad"}
    assert reading.host.memory > 0
    assert nvml.open == 0


def test_without_the_packages_there_are_reasons(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "psutil", None)
    reading = Sampler().read()
    assert reading.notes["nvidia"] == "the package nvidia-ml-py is not installed: `uv pip install nvidia-ml-py`"
    assert reading.host.utilization is None
    assert reading.host.missing["utilization"] == "the package psutil is not installed: `uv pip install psutil`"
    if sys.platform.startswith("linux"):
        assert reading.host.memory > reading.host.memory_used > 0


def test_shares_of_time_are_those_since_the_last_reading():
    clock = Clock()
    machine = SimpleNamespace(user=50.0, idle=50.0)
    process = SimpleNamespace(user=1.0, system=1.0)

    class Times(tuple):
        idle = property(lambda self: self[1])

    psutil = SimpleNamespace(
        cpu_times=lambda: Times((machine.user, machine.idle)),
        virtual_memory=lambda: SimpleNamespace(total=100, available=40),
        Process=lambda: SimpleNamespace(
            memory_info=lambda: SimpleNamespace(rss=7),
            cpu_times=lambda: SimpleNamespace(user=process.user, system=process.system),
        ),
    )
    host = HostSampler(psutil, clock)
    host._processors = 2
    first = host.read()
    assert (first.utilization, first.process_utilization, first.process_memory) == (None, None, 7)
    machine.user, machine.idle = machine.user + 3, machine.idle + 1
    process.user += 1.0
    clock.now += 2.0
    second = host.read()
    assert (second.utilization, second.process_utilization) == (0.75, 0.25)


def test_psutils_errors_are_reasons():
    def fail():
        raise PermissionError("no")

    process = SimpleNamespace(memory_info=fail)
    reading = HostSampler(SimpleNamespace(Process=lambda: process, cpu_times=fail, virtual_memory=fail)).read()
    missing = ("utilization", "process_memory", "process_utilization")
    assert {name: reading.missing[name] for name in missing} == dict.fromkeys(missing, "PermissionError: no")


def test_this_machine():
    readings = Sampler()
    readings.read()
    reading = readings.read()
    readings.close()
    assert 0 < reading.host.memory_used < reading.host.memory
    assert reading.host.missing == {}
    assert 0 <= reading.host.process_utilization <= 1
    assert reading.host.process_memory > 2**20
    plain = json.loads(json.dumps(reading.plain()))
    assert set(plain) == {"host", "gpus", "notes"}


@pytest.mark.gpu
def test_the_gpus_of_this_machine():
    reading = Sampler().read()
    assert reading.gpus, reading.notes
    for gpu in reading.gpus:
        assert 0 < gpu.memory_share < 1
        assert gpu.missing.keys() <= {"power", "power_limit", "utilization"}
        assert 0 < gpu.temperature < 110
        assert gpu.clock > 1e8
