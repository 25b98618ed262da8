"""The choice of runtimes: the whole matrix of machines, tasks and what is installed, and the reasons."""

from dataclasses import replace
from pathlib import Path

import pytest

from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.hardware.profiles import from_json
from llama_pajamas_run_core.runtimes.discovery import find
from llama_pajamas_run_core.runtimes.info import Room, RuntimeInfo, RuntimeState
from llama_pajamas_run_core.selection.matrix import CLASSES, MATRIX, hardware_class, is_data_center, known_runtimes
from llama_pajamas_run_core.selection.select import select
from llama_pajamas_run_core.types.hardware import HardwareProfile, NvidiaGPU, Processor
from llama_pajamas_run_core.types.tasks import Task

PROFILES = {
    path.stem: from_json(path.read_text("utf-8"))
    for path in (Path(__file__).parents[1] / "hardware" / "profiles").glob("*.json")
}
NAMES = ("coreml", "gguf", "mlx", "onnx", "system", "tensorrt")
#: The rooms that each runtime is to have one day, with a format each.
PLANNED = {
    "gguf": {Task.LLM: "gguf", Task.STT: "ggml-whisper"},
    "onnx": {Task.VISION: "onnx-vision", Task.STT: "onnx-whisper", Task.TTS: "piper"},
    "mlx": {Task.LLM: "mlx", Task.STT: "mlx-whisper"},
    "coreml": {Task.VISION: "coreml", Task.STT: "coreml-whisper"},
    "tensorrt": {Task.LLM: "tensorrt", Task.VISION: "tensorrt", Task.STT: "tensorrt"},
    "system": {Task.TTS: "system-voice"},
}


def descriptor(name: str) -> RuntimeInfo:
    info = find(name)
    assert info is not None
    return info


def planned(name: str) -> RuntimeInfo:
    rooms = {
        task: Room(f"x.{task}:X", (kind,), "", (name,), f"uv sync --extra {name}")
        for task, kind in PLANNED[name].items()
    }
    return replace(descriptor(name), rooms=rooms)


#: What may be installed: today's descriptors with every package, the planned ones with all or none, one alone.
INSTALLED = {
    "today": [RuntimeState(descriptor(name)) for name in NAMES],
    "planned": [RuntimeState(planned(name)) for name in NAMES],
    "no packages": [RuntimeState(planned(name), {task: (name,) for task in PLANNED[name]}) for name in NAMES],
    "gguf alone": [RuntimeState(descriptor("gguf"))],
}
L, V, S, T = Task.LLM, Task.VISION, Task.STT, Task.TTS
UNIVERSAL = {L: "gguf", V: "onnx", S: "gguf", T: "onnx"}
MAC = {L: "mlx", V: "coreml", S: "coreml", T: "system"}
OLD_MAC = {**UNIVERSAL, T: "system"}
IPHONE = {**UNIVERSAL, V: "coreml", S: "coreml"}
TENSORRT_TODAY = {**UNIVERSAL, V: "tensorrt", S: "tensorrt"}
TENSORRT = {L: "tensorrt", V: "tensorrt", S: "tensorrt", T: "onnx"}
#: (machine, installed) -> task -> runtime. With no packages nothing is chosen; gguf alone does language and speech.
EXPECTED = {
    ("macbook-m3-max", "today"): MAC,
    ("macbook-m3-max", "planned"): MAC,
    ("macbook-air-m1-8gb", "today"): MAC,
    ("macbook-air-m1-8gb", "planned"): MAC,
    ("mac-mini-m1-macos-12", "today"): OLD_MAC,
    ("mac-mini-m1-macos-12", "planned"): OLD_MAC,
    ("macbook-intel-2019", "today"): UNIVERSAL,
    ("macbook-intel-2019", "planned"): UNIVERSAL,
    ("iphone-15-pro", "today"): IPHONE,
    ("iphone-15-pro", "planned"): IPHONE,
    ("desktop-rtx-4090-windows", "today"): UNIVERSAL,
    ("desktop-rtx-4090-windows", "planned"): UNIVERSAL,
    ("workstation-rtx-4090-linux", "today"): TENSORRT_TODAY,
    ("workstation-rtx-4090-linux", "planned"): TENSORRT,
    ("server-h200", "today"): TENSORRT_TODAY,
    ("server-h200", "planned"): TENSORRT,
    ("server-gtx-1080", "today"): UNIVERSAL,
    ("server-gtx-1080", "planned"): UNIVERSAL,
    ("jetson-agx-orin", "today"): TENSORRT_TODAY,
    ("jetson-agx-orin", "planned"): TENSORRT,
    ("raspberry-pi-5", "today"): UNIVERSAL,
    ("raspberry-pi-5", "planned"): UNIVERSAL,
    ("laptop", "today"): UNIVERSAL,
    ("laptop", "planned"): UNIVERSAL,
    ("laptop-2010", "today"): {L: None, V: "onnx", S: "onnx", T: "onnx"},
    ("laptop-2010", "planned"): {L: None, V: "onnx", S: "onnx", T: "onnx"},
    **{(name, "no packages"): dict.fromkeys(Task) for name in PROFILES},
    **{
        (name, "gguf alone"): {L: "gguf", V: None, S: "gguf", T: None} if name != "laptop-2010" else dict.fromkeys(Task)
        for name in PROFILES
    },
}


@pytest.mark.parametrize("installed", INSTALLED)
@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("machine", sorted(PROFILES))
def test_the_whole_matrix(machine, task, installed):
    selection = select(PROFILES[machine], task, INSTALLED[installed])
    chosen = selection.chosen
    assert (chosen and chosen.runtime) == EXPECTED[machine, installed][task]
    assert {candidate.runtime for candidate in selection.candidates} >= set(known_runtimes(task))
    assert all(candidate.reason and candidate.reason[-1] != "." for candidate in selection.candidates)
    assert [candidate.taken for candidate in selection.candidates].count(True) == (chosen is not None)
    assert chosen is None or selection.candidates[0] is chosen
    if chosen is None:
        with pytest.raises(Unsupported) as raised:
            selection.require()
        assert all(str(candidate) in str(raised.value) for candidate in selection.candidates)
    else:
        assert selection.require() is chosen


@pytest.mark.parametrize(
    ("machine", "kind"),
    [
        ("server-h200", "data-center"),
        ("workstation-rtx-4090-linux", "workstation"),
        ("jetson-agx-orin", "embedded"),
        ("macbook-m3-max", "mac"),
        ("macbook-intel-2019", "universal"),
        ("iphone-15-pro", "mobile"),
        ("raspberry-pi-5", "universal"),
    ],
)
def test_classes_of_machines(machine, kind):
    assert hardware_class(PROFILES[machine]).name == kind


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", True),
        ("NVIDIA H100 PCIe", True),
        ("NVIDIA H200", True),
        ("NVIDIA B200", True),
        ("NVIDIA GH200 480GB", True),
        ("NVIDIA L40S", True),
        ("NVIDIA A10G", True),
        ("Tesla T4", True),
        ("Tesla V100-SXM2-16GB", True),
        ("NVIDIA GeForce RTX 4090", False),
        ("NVIDIA RTX A6000", False),
        ("NVIDIA RTX 6000 Ada Generation", False),
        ("Quadro P2000", False),
        ("NVIDIA T1000", False),
        ("NVIDIA T400", False),
        ("NVIDIA GB10", False),
        ("NVIDIA TITAN V", False),
    ],
)
def test_gpus_of_the_data_center(name, expected):
    assert is_data_center(NvidiaGPU(0, "", name, (9, 0), 1, 1, "", (13, 0))) is expected


def test_the_matrix_names_known_classes_and_runtimes():
    assert {kind for kind, _ in MATRIX} <= {kind.name for kind in CLASSES}
    assert {rank.runtime for row in MATRIX.values() for rank in row} <= set(NAMES)


def reasons(machine, task, states, **options):
    return {one.runtime: one.reason for one in select(PROFILES[machine], task, states, **options).candidates}


def test_reasons_say_what_to_do():
    found = reasons("server-h200", Task.LLM, INSTALLED["no packages"])
    assert found["tensorrt"] == "driver found, but the package tensorrt is not installed: `uv sync --extra tensorrt`"
    assert found["mlx"] == "the hardware fits, but the package mlx is not installed: `uv sync --extra mlx`"
    assert reasons("desktop-rtx-4090-windows", Task.LLM, INSTALLED["today"])["mlx"] == (
        "MLX needs a Mac with Apple silicon, or Linux"
    )
    assert reasons("server-h200", Task.LLM, [])["tensorrt"] == "the package llama-pajamas-run-tensorrt is not installed"
    today = reasons("macbook-m3-max", Task.LLM, INSTALLED["today"])
    assert today["mlx"] == "native on Apple silicon, and efficient"
    assert today["gguf"] == "ranked after MLX; runs on any CPU or GPU"
    assert today["tensorrt"] == "no NVIDIA GPU: no NVIDIA driver is installed"
    assert (
        reasons("server-gtx-1080", Task.LLM, INSTALLED["planned"])["tensorrt"]
        == "TensorRT 10 needs compute capability 7.5, the GPU has 6.1"
    )
    assert "avx2" in reasons("laptop-2010", Task.LLM, INSTALLED["today"])["gguf"]
    assert "macOS 14" in reasons("mac-mini-m1-macos-12", Task.LLM, INSTALLED["planned"])["mlx"]
    eyes = reasons("mac-mini-m1-macos-12", Task.VISION, INSTALLED["today"])
    assert eyes["coreml"] == "the packages are for macOS 14 and later, this is 12.7.6"
    assert reasons("laptop", Task.VISION, INSTALLED["today"])["coreml"] == "Core ML exists on macOS and iOS only"
    heard = reasons("macbook-m3-max", Task.STT, INSTALLED["today"])
    assert heard["coreml"] == "the Neural Engine: native on Apple silicon, and efficient"
    assert heard["mlx"] == "ranked after Core ML; native on Apple silicon, and efficient"
    assert "no voice for iOS" in reasons("iphone-15-pro", Task.TTS, INSTALLED["today"])["system"]
    voices = reasons("laptop", Task.TTS, INSTALLED["today"])
    assert voices["system"] == "ranked after ONNX Runtime; the voice that is always there"


def test_an_old_driver_is_a_reason():
    machine = PROFILES["server-h200"]
    old = replace(machine, nvidia=(replace(machine.nvidia[0], driver="535.1", cuda=(12, 2)),))
    found = {one.runtime: one.reason for one in select(old, Task.LLM, INSTALLED["planned"]).candidates}
    assert found["tensorrt"] == "needs a driver for CUDA 13.0, driver 535.1 serves CUDA 12.2"


def test_the_formats_of_a_model_decide():
    selection = select(PROFILES["server-h200"], Task.LLM, INSTALLED["planned"], formats=frozenset({"gguf"}))
    assert selection.chosen.runtime == "gguf"
    assert selection.chosen.format == "gguf"
    found = {one.runtime: one.reason for one in selection.candidates}
    assert found["tensorrt"] == "the model is not available as tensorrt: it is gguf"
    both = select(PROFILES["server-h200"], Task.LLM, INSTALLED["planned"], formats=("gguf", "tensorrt"))
    assert (both.chosen.runtime, both.chosen.format) == ("tensorrt", "tensorrt")
    with pytest.raises(Unsupported, match="the model is not available as gguf: it is no format at all"):
        select(PROFILES["laptop"], Task.LLM, INSTALLED["today"], formats=()).require()
    voice = select(PROFILES["laptop"], Task.TTS, INSTALLED["today"], formats={"system-voice"}).chosen
    assert (voice.runtime, voice.format) == ("system", "system-voice")


def test_a_preference_comes_first_where_it_can():
    chosen = select(PROFILES["server-h200"], Task.LLM, INSTALLED["planned"], prefer="gguf").chosen
    assert (chosen.runtime, chosen.reason) == ("gguf", "asked for; runs on any CPU or GPU")
    selection = select(PROFILES["laptop"], Task.LLM, INSTALLED["planned"], prefer=("tensorrt", "gguf"))
    assert selection.chosen.runtime == "gguf"
    assert "no NVIDIA GPU" in next(one.reason for one in selection.candidates if one.runtime == "tensorrt")
    with pytest.raises(BadInput, match="no runtime 'gguff'.*gguf"):
        select(PROFILES["laptop"], Task.LLM, INSTALLED["today"], prefer="gguff")


def test_a_strangers_runtime_takes_part():
    room = Room("theirs:LLM", ("gguf",), "", (), "")
    theirs = RuntimeInfo("theirs", "Theirs", {Task.LLM: room}, "any", lambda profile: None)
    machine = HardwareProfile("Linux", "", Processor("x", "x86_64", 1, 1))
    selection = select(machine, Task.LLM, [RuntimeState(theirs)])
    assert selection.chosen.runtime == "theirs"
    assert selection.chosen.reason == "installed, and runs on this machine"
    assert select(machine, Task.TTS, [RuntimeState(theirs)]).chosen is None


def test_asking_twice_gives_the_same():
    first = select(PROFILES["laptop"], Task.STT, INSTALLED["today"])
    assert first == select(PROFILES["laptop"], Task.STT, INSTALLED["today"])
