"""The processor's probe on recorded /proc and /sys files, and on this machine."""

import os

import pytest

from llama_pajamas_run_core.hardware import cpu, limits

INTEL = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R)  Xeon(R) Platinum 8480C
flags\t\t: fpu sse4_2 avx f16c fma bmi2 avx2 avx512f avx512vbmi avx512_vbmi2 avx512_vnni amx_tile amx_int8 unknown_thing
"""
RASPBERRY = """\
processor\t: 0
Features\t: fp asimd evtstrm aes asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""


@pytest.fixture
def root(tmp_path):
    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


MEMINFO = "MemTotal:       8000000 kB\nMemFree:         1000000 kB\nMemAvailable:    6000000 kB\n"


def test_an_intel_server(root):
    found = cpu.linux_processor(root({"proc/cpuinfo": INTEL, "proc/meminfo": MEMINFO}), "x86_64")
    assert found.name == "Intel(R) Xeon(R) Platinum 8480C"
    assert found.features == {
        "sse4_2", "avx", "f16c", "fma", "bmi2", "avx2", "avx512f", "avx512_vbmi", "avx512_vnni", "amx_tile", "amx_int8",
    }  # fmt: skip
    assert (found.memory, found.memory_free) == (8_000_000 * 1024, 6_000_000 * 1024)


def test_a_raspberry_pi(root):
    files = {"proc/cpuinfo": RASPBERRY, "proc/meminfo": MEMINFO, "proc/device-tree/model": "Raspberry Pi 5 Model B\x00"}
    found = cpu.linux_processor(root(files), "aarch64")
    assert found.name == "Raspberry Pi 5 Model B (Cortex-A76)"
    assert found.architecture == "arm64"
    assert found.features == {"neon", "fp16", "dotprod"}


def test_without_any_files_there_is_still_an_answer(root):
    found = cpu.linux_processor(root({}), "riscv64")
    assert found.cores >= 1
    assert found.threads >= 1
    assert (found.memory, found.memory_free) == (0, 0)


def test_hyperthreads_are_not_counted_as_cores(root):
    allowed = sorted(os.sched_getaffinity(0))
    files = {f"sys/devices/system/cpu/cpu{number}/topology/core_id": "0" for number in allowed}
    files |= {f"sys/devices/system/cpu/cpu{number}/topology/physical_package_id": "0" for number in allowed}
    files["sys/devices/system/cpu/cpu9999/topology/core_id"] = "7"  # not one of this process
    assert cpu.linux_processor(root(files), "x86_64").cores == 1


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/box\n",
                "sys/fs/cgroup/box/cpu.max": "max 100000\n",
                "sys/fs/cgroup/cpu.max": "300000 100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({}, None),
    ],
)
def test_quotas_of_control_groups(root, files, quota):
    folder = root(files)
    assert limits.cpu_quota(folder) == quota
    if quota is not None and quota <= 1:
        assert limits.usable_processors(folder) == 1


@pytest.mark.parametrize(
    ("files", "limit", "left"),
    [
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000000\n",
                "sys/fs/cgroup/memory.current": "700000\n",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 200000\n",
            },
            1_000_000,
            500_000,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None, None),
        (
            {
                "proc/self/cgroup": "4:memory:/box\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2000000\n",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "500000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            2_000_000,
            1_500_000,
        ),
    ],
)
def test_memory_limits_of_control_groups(root, files, limit, left):
    folder = root({**files, "proc/meminfo": MEMINFO})
    assert limits.memory_limit(folder) == limit
    assert limits.memory_left(folder) == left
    total, free = cpu.linux_memory(folder)
    assert total == (limit or 8_000_000 * 1024)
    assert free == (left or 6_000_000 * 1024)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("AMD64", "x86_64"), ("x86_64", "x86_64"), ("aarch64", "arm64"), ("arm64", "arm64")]
)
def test_architectures_have_one_name(theirs, ours):
    assert cpu.architecture(theirs) == ours


def test_free_memory_of_a_mac():
    text = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            500000.
Pages inactive:                           20000.
Pages speculative:                          500.
Pages purgeable:                            500.
"""
    assert cpu.parse_vm_stat(text) == 31_000 * 16_384
    assert cpu.parse_vm_stat("") == 0
