"""Does the hardware monitor see what a real NVIDIA GPU does, at what cost, and what CUDA would let a process use?

    python benchmarks/gpu_monitor.py --json record.json

Needs run-core, numpy and nvidia-ml-py alone. Ends with 1 where a check fails.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llama_pajamas_run_core.bench import cublas
from llama_pajamas_run_core.bench.cuda import Device, load_driver
from llama_pajamas_run_core.hardware.detect import detect
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.hardware.nvidia import probe_nvidia
from llama_pajamas_run_core.hardware.profiles import to_json
from llama_pajamas_run_core.hardware.sampler import Sampler
from llama_pajamas_run_core.hardware.thresholds import Alarm, Thresholds

_SIZE = 8192


def seen_by_cuda() -> list[str]:
    """The UUIDs of the GPUs that CUDA lets this process use, in its order."""
    cuda = load_driver()
    count, device, uuid = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetUuid_v2(ctypes.byref(uuid), device)
        digits = bytes(uuid).hex()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        found.append("GPU-" + "-".join(parts))
    return found


def visibility(uuids: list[str]) -> list[dict[str, Any]]:
    """What CUDA and our probe make of CUDA_VISIBLE_DEVICES, each in a process of its own."""
    first, last = uuids[0], uuids[-1]
    values = [None, "", "0", "-1", "99", "0,99", "0,-1,0", "0,0", "0junk", " 0", "junk", first, first[:12], "GPU-"]
    values += [f"{last},{first}", "MIG-0", ",".join(map(str, reversed(range(len(uuids)))))]
    rows = []
    for value in values:
        environ = {name: text for name, text in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        if value is not None:
            environ["CUDA_VISIBLE_DEVICES"] = value
        command = [sys.executable, __file__, "--visible"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=True)
        told = json.loads(done.stdout)
        rows.append({"value": value, **told, "same": told["cuda"] == told["ours"]})
    return rows


def cost(readings: int = 50) -> dict[str, float]:
    """Milliseconds of one reading."""
    sampler = Sampler()
    sampler.read()
    taken = []
    for _ in range(readings):
        start = time.perf_counter()
        sampler.read()
        taken.append(1000 * (time.perf_counter() - start))
    sampler.close()
    return {"median_ms": statistics.median(taken), "high_ms": max(taken), "readings": readings}


def under_load(seconds: float = 6.0) -> dict[str, Any]:
    """A reading of an idle GPU, and one while it multiplies matrices."""
    idle = Sampler().read().gpus[0]
    stop = threading.Event()

    def work() -> None:
        with Device() as device:
            library = cublas.find(device.version[0])
            places = [device.allocate(2 * _SIZE * _SIZE) for _ in range(3)]
            product = cublas.Product(library, _SIZE)
            while not stop.is_set():
                device.milliseconds(lambda: product(*places), runs=5, warmup=0)
            product.close()

    worker = threading.Thread(target=work)
    monitor = Monitor(thresholds=Thresholds(temperature=max(idle.temperature or 30.0, 20.0) - 5), interval=0.2)
    monitor.start()
    worker.start()
    time.sleep(seconds)
    seen = monitor.watch()
    stop.set()
    worker.join(30)
    monitor.stop()
    assert seen.reading is not None
    return {
        "idle": {name: getattr(idle, name) for name in idle.__slots__},
        "busy": seen.reading.plain()["gpus"][0],
        "readings": seen.count,
        "alerts": [f"{alert.name} {alert.kind}: {alert.message}" for alert in seen.alerts],
    }


def filled() -> dict[str, Any]:
    """What the alarm says once more than nine tenths of a GPU's memory are taken."""
    sampler, alarm = Sampler(), Alarm(Thresholds())
    before = [alert.kind for alert in alarm.update(sampler.read())]
    with Device() as device:
        reading = sampler.read().gpus[0]
        assert reading.memory is not None
        assert reading.memory_used is not None
        device.allocate(int(0.92 * reading.memory) - reading.memory_used)
        full = [alert.message for alert in alarm.update(sampler.read()) if alert.device != "host"]
    after = [alert.kind for alert in alarm.update(sampler.read()) if alert.device != "host"]
    sampler.close()
    return {"before": before, "full": full, "after": after}


def main() -> int:
    """Measure, check, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--visible", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.visible:
        ours, reason = probe_nvidia()
        print(json.dumps({"ours": [gpu.uuid for gpu in ours], "reason": reason, "cuda": seen_by_cuda()}))
        return 0
    start = time.perf_counter()
    profile = detect()
    detected = 1000 * (time.perf_counter() - start)
    if not profile.nvidia:
        print(f"no GPU: {profile.notes['nvidia']}")
        return 1
    result: dict[str, Any] = {
        "benchmark": "gpu-monitor",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/gpu_monitor.py",
        "python": platform.python_version(),
        "hardware": json.loads(to_json(profile)),
        "detect_ms": detected,
        "reading": cost(),
        "load": under_load(),
        "memory": filled(),
        "visibility": visibility([gpu.uuid for gpu in profile.nvidia]),
    }
    busy, idle = result["load"]["busy"], result["load"]["idle"]
    result["checks"] = {
        "one reading takes less than 20 ms": result["reading"]["median_ms"] < 20,
        "a busy GPU is seen as busy": busy["utilization"] is not None and busy["utilization"] > 0.8,
        "it takes more power": busy["power"] is not None and busy["power"] > idle["power"],
        "nothing is missing": busy["missing"] == {},
        "a threshold that is passed raises an alert": any("temperature" in text for text in result["load"]["alerts"]),
        "full memory raises an alert, and it ends": bool(result["memory"]["full"]) and not result["memory"]["after"],
        "CUDA_VISIBLE_DEVICES means what it means to CUDA": all(row["same"] for row in result["visibility"]),
    }
    for row in result["visibility"]:
        if not row["same"]:
            print(f"CUDA_VISIBLE_DEVICES={row['value']!r}: CUDA sees {row['cuda']}, the probe {row['ours']}")
    for what, passed in result["checks"].items():
        print(f"{'ok    ' if passed else 'FAILED'} {what}")
    print(f"reading: {result['reading']['median_ms']:.2f} ms; busy: {busy}")
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    return 0 if all(result["checks"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
