"""How GPUs reach each other, and the profile that records it."""

import pytest
from support.fake_nvml import GPU, NVML

from llama_pajamas_run_core.cli.hardware import profile_table
from llama_pajamas_run_core.hardware import nvidia
from llama_pajamas_run_core.hardware.profiles import from_json, to_json
from llama_pajamas_run_core.hardware.topology import ask_links, describe
from llama_pajamas_run_core.types.hardware import GPULink, HardwareProfile, Processor


def links(*gpus, levels=None):
    nvml = NVML(*gpus, levels=levels)
    found, _ = nvidia.ask(nvml, {})
    nvml.nvmlInit()
    return found, ask_links(nvml, found)


def test_gpus_behind_nvswitches_are_joined_by_all_their_links():
    switched = dict.fromkeys(range(18), "switch")
    gpus = [GPU(f"GPU-{index}", links=switched) for index in range(3)]
    _, found = links(*gpus, levels={(0, 1): 40, (0, 2): 50, (1, 2): 50})
    assert found == (GPULink(0, 1, "NODE", 18), GPULink(0, 2, "SYS", 18), GPULink(1, 2, "SYS", 18))
    assert describe(found[0]) == "18 NVLinks"


def test_gpus_joined_directly_are_told_by_their_addresses():
    first = GPU("GPU-0", bus="00000000:18:00.0", links={0: "0000:3B:00.0", 1: "0000:3B:00.0"})
    second = GPU("GPU-1", bus="00000000:3B:00.0", links={0: "0000:18:00.0", 1: "0000:18:00.0"})
    third = GPU("GPU-2", bus="00000000:86:00.0")
    _, found = links(first, second, third, levels={(0, 1): 10, (0, 2): 50})
    assert found == (GPULink(0, 1, "PIX", 2), GPULink(0, 2, "SYS", 0), GPULink(1, 2, "", 0))
    assert [describe(link) for link in found] == ["2 NVLinks", "PCIe, over the link between processors", "unknown"]


def test_a_lost_gpu_has_no_links():
    nvml = NVML(GPU("GPU-0"), GPU("GPU-1"), GPU("GPU-2"), levels={(0, 2): 30})
    found, _ = nvidia.ask(nvml, {})
    nvml.gpus[1].lost = True
    nvml.nvmlInit()
    assert ask_links(nvml, found) == (GPULink(0, 2, "PHB", 0),)


def test_the_profile_records_them_and_the_table_shows_them():
    gpus, found = links(GPU("GPU-0"), GPU("GPU-1"), levels={(0, 1): 20})
    profile = HardwareProfile("Linux", "", Processor("x", "x86_64", 1, 1), gpus, None, found)
    assert from_json(to_json(profile)) == profile
    table = profile_table(profile)
    shown = dict(zip(table.columns[0].cells, table.columns[1].cells, strict=True))
    assert shown["GPU 0 to 1"] == "PCIe, over several PCIe switches"


@pytest.mark.gpu
def test_the_links_of_this_machine():
    from llama_pajamas_run_core.hardware.detect import detect

    profile = detect()
    assert len(profile.links) == len(profile.nvidia) * (len(profile.nvidia) - 1) // 2
