"""The monitor's thread, its thresholds and their alerts."""

import logging
import threading
import time

import pytest
from support.fake_nvml import GPU, NVML
from support.waiting import wait_until

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.hardware.readings import GPUReading, HostReading, Reading
from llama_pajamas_run_core.hardware.sampler import Sampler
from llama_pajamas_run_core.hardware.thresholds import Alarm, Thresholds


def reading(*, used=10, host=10, temperature=40.0, throttling=()):
    gpu = GPUReading(1, "GPU-x", "NVIDIA H200", 100, used, 0.5, temperature, throttling=throttling)
    return Reading(0.0, HostReading(100, host), (gpu,))


def kinds(alerts):
    return [(alert.device, alert.kind) for alert in alerts]


def test_an_alert_lasts_until_the_value_is_well_below_and_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    alarm = Alarm(Thresholds())
    assert alarm.update(reading(temperature=84.9)) == ()
    (alert,) = alarm.update(reading(temperature=85.0))
    assert (alert.device, alert.kind, alert.name) == ("GPU-x", "temperature", "GPU 1")
    assert alert.message == "85 degrees Celsius, past 85"
    assert len(alarm.update(reading(temperature=90.0))) == 1
    assert len(alarm.update(reading(temperature=82.0))) == 1
    assert alarm.update(reading(temperature=81.9)) == ()
    assert alarm.update(reading(temperature=84.0)) == ()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    alarm.update(reading(temperature=86.0))
    assert len(caplog.records) == 3


def test_memory_of_the_gpu_and_of_the_host():
    alarm = Alarm(Thresholds())
    assert kinds(alarm.update(reading(used=90, host=89))) == [("GPU-x", "memory")]
    assert kinds(alarm.update(reading(used=89, host=90))) == [("host", "memory"), ("GPU-x", "memory")]
    assert kinds(alarm.update(reading(used=87, host=88))) == [("host", "memory")]


def test_throttling_by_heat_ends_after_some_calm_readings():
    alarm = Alarm(Thresholds(calm=2))
    assert alarm.update(reading(throttling=("power_cap",))) == ()
    (alert,) = alarm.update(reading(throttling=("thermal_hardware",)))
    assert alert.message == "it computes more slowly because of its heat (thermal_hardware)"
    assert kinds(alarm.update(reading())) == [("GPU-x", "throttling")]
    assert kinds(alarm.update(reading(throttling=("thermal_software",)))) == [("GPU-x", "throttling")]
    assert kinds(alarm.update(reading())) == [("GPU-x", "throttling")]
    assert alarm.update(reading()) == ()


def test_thresholds_can_be_set_and_nonsense_is_refused():
    alarm = Alarm(Thresholds(temperature=50, memory=0.5))
    assert len(alarm.update(reading(temperature=60.0, used=60, host=60))) == 3
    for wrong in ({"memory": 0.0}, {"memory": 90}, {"temperature": -1}, {"temperature": 1000}):
        with pytest.raises(BadInput, match="threshold"):
            Thresholds(**wrong)


def test_a_value_that_is_not_known_is_no_alert():
    alarm = Alarm(Thresholds())
    alarm.update(reading(used=95, temperature=90.0))
    gone = Reading(0.0, HostReading(), (GPUReading(1, "GPU-x", "NVIDIA H200"),))
    assert alarm.update(gone) == ()


def make(nvml, **more):
    return Monitor(Sampler(nvml=nvml, environ={}), interval=0.1, **more)


def threads():
    return {thread for thread in threading.enumerate() if thread.name == "hardware-monitor"}


@pytest.fixture
def started():
    """How many monitors run that did not before the test: servers that several tests share have theirs."""
    others = threads()
    return lambda: len(threads() - others)


def test_one_thread_takes_readings_until_it_is_stopped(started):
    nvml = NVML(GPU(temperature=90))
    monitor = make(nvml)
    assert monitor.watch().reading is None
    heard = []
    end = monitor.subscribe(lambda: heard.append(monitor.watch().count))
    monitor.start()
    monitor.start()
    wait_until(lambda: monitor.watch().count >= 3)
    assert started() == 1
    assert kinds(monitor.watch().alerts) == [("GPU-0", "temperature")]
    assert heard[:2] == [1, 2]
    end()
    end()
    monitor.stop()
    monitor.stop()
    assert started() == 0
    assert nvml.open == 0
    count = monitor.watch().count
    monitor.start()
    wait_until(lambda: monitor.watch().count > count)
    monitor.stop()


def test_the_rate_is_bounded():
    with pytest.raises(BadInput, match=r"every 0\.1 seconds at most"):
        Monitor(interval=0.01)


def test_a_listener_that_fails_ends_nothing(caplog):
    monitor = make(NVML())
    monitor.subscribe(lambda: 1 / 0)
    assert monitor.sample().count == 1
    assert monitor.sample().count == 2
    assert "a listener of the hardware monitor failed" in caplog.text


def test_a_driver_that_hangs_is_not_waited_for_and_its_alerts_stop_counting(started):
    nvml = NVML(GPU(temperature=90))
    now = [0.0]
    sampler = Sampler(nvml=nvml, environ={}, clock=lambda: now[0])
    monitor = Monitor(sampler, interval=0.1, clock=lambda: now[0])
    assert len(monitor.sample().alerts) == 1
    released = threading.Event()
    nvml.nvmlDeviceGetUtilizationRates = lambda handle: released.wait(10) and None
    monitor.start()
    start = time.monotonic()
    assert len(monitor.watch().alerts) == 1
    now[0] = 10.5
    assert monitor.stale()
    assert monitor.watch().alerts == ()
    assert monitor.watch().reading is not None
    monitor.stop(timeout=0.05)
    assert time.monotonic() - start < 5
    released.set()
    wait_until(lambda: started() == 0)
