"""Which GPUs a process may use, by CUDA's rules and without CUDA."""

import pytest
from support.fake_nvml import GPU, NVML, Part

from llama_pajamas_run_core.hardware import nvidia

FOUR = tuple(GPU(uuid) for uuid in ("GPU-aa1", "GPU-aa2", "GPU-b3", "GPU-c4"))
DIVIDED = GPU("GPU-m", parts=(Part("MIG-11", 18, (9, 0)), Part("MIG-12", 36, (11, 0))))


def seen(value, *gpus, **more):
    environ = {**({} if value is None else {"CUDA_VISIBLE_DEVICES": value}), **more}
    found, reason = nvidia.ask(NVML(*(gpus or FOUR)), environ)
    return [gpu.uuid for gpu in found], reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["GPU-aa1", "GPU-aa2", "GPU-b3", "GPU-c4"]),
        ("", []),
        ("-1", []),
        ("0", ["GPU-aa1"]),
        ("2,0", ["GPU-b3", "GPU-aa1"]),
        (" 1 , 3 ", ["GPU-aa2", "GPU-c4"]),
        ("1,9,2", ["GPU-aa2"]),  # up to the first that is none
        ("1,-1,2", ["GPU-aa2"]),
        ("1,nonsense,2", ["GPU-aa2"]),
        ("1gpu,2", ["GPU-aa2", "GPU-b3"]),
        ("1,1", []),  # one that comes twice
        ("GPU-c4,GPU-aa1", ["GPU-c4", "GPU-aa1"]),
        ("GPU-b", ["GPU-b3"]),
        ("GPU-aa", []),  # the beginning of two
        ("GPU-zz", []),
        ("GPU-b3,0", ["GPU-b3", "GPU-aa1"]),
        ("MIG-11", []),
        ("NoDevFiles", []),
    ],
)
def test_by_index_and_by_uuid(value, expected):
    assert seen(value)[0] == expected


def test_what_is_hidden_has_a_reason():
    assert seen(None)[1] is None
    assert seen("0,1,2,3")[1] is None
    assert seen("1")[1] == "CUDA_VISIBLE_DEVICES=1 hides 3 of 4 GPUs"
    assert seen("")[1] == "CUDA_VISIBLE_DEVICES= hides all 4 GPUs"


def test_an_index_keeps_the_index_of_nvml():
    (gpu,), _ = nvidia.ask(NVML(*FOUR), {"CUDA_VISIBLE_DEVICES": "2"})
    assert gpu.index == 2


def test_cuda_counts_the_fastest_first_unless_told_to_follow_the_bus():
    mixed = (GPU("GPU-old", capability=(6, 1)), GPU("GPU-new", capability=(9, 0)))
    assert seen("0", *mixed)[0] == ["GPU-new"]
    assert seen("0", *mixed, CUDA_DEVICE_ORDER="PCI_BUS_ID")[0] == ["GPU-old"]
    assert seen(None, *mixed)[0] == ["GPU-new", "GPU-old"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["GPU-aa1"]),  # a whole one goes before parts
        ("MIG-12", ["MIG-12"]),
        ("MIG-GPU-m/11/0", ["MIG-12"]),
        ("MIG-GPU-m/1/0", []),
        ("MIG-1", []),  # the beginning of two
        ("MIG-11,MIG-12", ["MIG-11"]),  # a process can use one
        ("GPU-m", ["MIG-11"]),
        ("1", ["MIG-11"]),
        ("0,MIG-11", ["GPU-aa1"]),
    ],
)
def test_parts_of_gpus(value, expected):
    assert seen(value, FOUR[0], DIVIDED)[0] == expected


def test_a_bare_prefix_names_no_gpu():
    assert seen("GPU-", FOUR[0])[0] == []
    assert seen("GPU-a", FOUR[0])[0] == ["GPU-aa1"]


def test_facts_of_a_part():
    (part,), reason = nvidia.ask(NVML(DIVIDED, GPU("GPU-n", parts=())), {})
    assert (part.uuid, part.name, part.memory, part.index) == ("MIG-11", "NVIDIA H200 MIG 1g.18gb", 18, 0)
    assert part.compute_capability == (9, 0)
    assert reason == "MIG divides GPUs, and CUDA lets a process use one part: 1 of 2 GPUs are not used"
