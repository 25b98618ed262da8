"""Watching the hardware from the command line."""

import io
import json
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from rich.console import Console
from support.fake_nvml import GPU, NVML

from llama_pajamas_run_core.cli import app as cli
from llama_pajamas_run_core.cli import watch
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.monitor import Monitor
from llama_pajamas_run_core.hardware.sampler import Sampler


def monitor(*gpus):
    return Monitor(Sampler(nvml=NVML(*gpus), environ={}), interval=0.1)


def shown(seen):
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(watch.table(seen))
    return console.export_text()


def test_a_table_of_everything():
    hot = GPU(memory=100 << 30, used=95 << 30, utilization=88, temperature=91, throttling=0x44)
    text = shown(monitor(hot, GPU("GPU-1", power=None, power_limit=None)).sample())
    first, *_ = (line for line in text.splitlines() if line.startswith("GPU 0"))
    for what in ("88%", "95.0 of 100.0 GiB (95%)", "91 C", "100 of 700 W", "1980 MHz", "power_cap, thermal_hardware"):
        assert what in first
    assert "GPU 0: 95% of its memory is in use, past 90%" in text
    assert "GPU 0: 91 degrees Celsius, past 85" in text
    assert "GPU 1, no power, power_limit: NVML error 3" in text
    assert "host" in text


def test_without_a_gpu_there_is_the_processor_and_the_reason():
    text = shown(Monitor(Sampler(nvml=NVML(init=12), environ={})).sample())
    assert "nvidia: no NVIDIA driver is installed" in text
    assert "GiB" in text


def test_lines_of_json(capsys):
    watch.show(interval=0.1, count=2, as_json=True, monitor=monitor(GPU(temperature=90)))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    assert set(lines[0]) == {"time", "host", "gpus", "notes", "alerts"}
    assert lines[0]["gpus"][0]["temperature"] == 90.0
    assert lines[0]["alerts"][0]["kind"] == "temperature"
    assert 0 <= lines[1]["host"]["utilization"] <= 1


def test_the_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["hardware", "--watch", "--count", "1", "--interval", "0.1"])
    assert ended.value.code == 0
    assert "this process" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.run(["hardware", "--watch", "--interval", "0"])
    assert ended.value.code == 1
    assert "every 0.1 seconds at most" in capsys.readouterr().err
    with pytest.raises(BadInput):
        watch.show(interval=0.0, count=1, as_json=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_it_ends_on_ctrl_c():
    command = [sys.executable, "-m", "llama_pajamas_run_core.cli", "hardware", "--watch", "--json", "--interval", "0.1"]
    # Tests that a shell started in the background ignore the signal, and so would what they start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["host"]["memory"] > 0
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert time.monotonic() - start < 15
