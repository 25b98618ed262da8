"""Detection as a whole: an answer on every machine, whatever a probe does."""

import sys

import pytest

from llama_pajamas_run_core.hardware import apple, cpu
from llama_pajamas_run_core.hardware.detect import detect
from llama_pajamas_run_core.hardware.profiles import from_json, to_json


def test_this_machine():
    profile = detect()
    assert profile.system in ("Linux", "Darwin", "Windows")
    assert profile.processor.cores >= 1
    assert profile.processor.threads >= profile.processor.cores
    assert profile.processor.memory > profile.processor.memory_free > 0
    assert profile.nvidia or profile.notes["nvidia"]
    assert profile.apple or profile.notes["apple"]
    assert from_json(to_json(profile)) == profile


def test_a_probe_that_fails_leaves_its_reason(monkeypatch, caplog):
    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setattr("llama_pajamas_run_core.hardware.detect.probe_nvidia", broken)
    monkeypatch.setattr("llama_pajamas_run_core.hardware.detect.probe_processor", broken)
    profile = detect()
    assert profile.nvidia == ()
    assert profile.notes["nvidia"] == "the probe failed: RuntimeError: no such thing"
    assert profile.processor.cores == 1
    assert "probe=processor failed" in caplog.text


SYSCTL = {
    "machdep.cpu.brand_string": "Apple M3 Max",
    "hw.memsize": "68719476736",
    "hw.physicalcpu": "16",
    "hw.logicalcpu": "16",
    "hw.optional.arm64": "1",
    "hw.optional.neon": "1",
    "hw.optional.arm.FEAT_DotProd": "1",
    "hw.optional.arm.FEAT_SME": "0",
}


def test_a_mac_with_apple_silicon(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        cpu, "_psutil_free", lambda: 0
    )  # psutil, imported on a Mac that is none, is broken from then on
    monkeypatch.setattr(apple, "sysctl", lambda *names: {name: SYSCTL[name] for name in names if name in SYSCTL})
    monkeypatch.setattr(cpu, "sysctl", lambda *names: {name: SYSCTL[name] for name in names if name in SYSCTL})
    monkeypatch.setattr(apple, "_gpu_cores", lambda: 40)
    chip, reason = apple.probe_apple()
    assert reason is None
    assert (chip.name, chip.memory, chip.gpu_cores) == ("Apple M3 Max", 64 << 30, 40)
    processor = cpu.probe_processor()
    assert (processor.architecture, processor.cores) == ("arm64", 16)
    assert processor.features == {"neon", "dotprod"}


def test_a_mac_with_an_intel_processor(monkeypatch):
    facts = {"machdep.cpu.brand_string": "Intel(R) Core(TM) i9", "machdep.cpu.features": "SSE4.2 AVX1.0 FMA F16C"}
    facts["machdep.cpu.leaf7_features"] = "AVX2 BMI2"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        cpu, "_psutil_free", lambda: 0
    )  # psutil, imported on a Mac that is none, is broken from then on
    monkeypatch.setattr(apple, "sysctl", lambda *names: {})
    monkeypatch.setattr(cpu, "sysctl", lambda *names: facts)
    assert apple.probe_apple() == (None, "this Mac has an Intel processor")
    assert cpu.probe_processor().features == {"sse4_2", "avx", "fma", "f16c", "avx2", "bmi2"}


def test_the_cores_of_an_apple_gpu():
    text = '{"SPDisplaysDataType": [{"_name": "Apple M3 Max", "sppci_cores": "40"}]}'
    assert apple.parse_gpu_cores(text) == 40
    assert apple.parse_gpu_cores("") == 0
    assert apple.parse_gpu_cores('{"SPDisplaysDataType": [{"_name": "AMD Radeon"}]}') == 0


@pytest.mark.apple
def test_this_mac():
    profile = detect()
    assert profile.apple is not None
    assert profile.apple.memory > 0
