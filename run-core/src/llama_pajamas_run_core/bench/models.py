"""How fast models see and hear, on the CPU beside the GPU."""

import math
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.bench.figures import Figure, Line, attempt, paced
from llama_pajamas_run_core.errors import BadInput, PajamasError, Unsupported
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.selection.select import Candidate
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_core.types.vision import Image

#: Runtimes that compute on an NVIDIA GPU alone.
GPU_RUNTIMES: Final = ("tensorrt",)
#: What keeps the others on the CPU where they could take a GPU.
_ON_CPU: Final[Mapping[tuple[str, Task], Mapping[str, Any]]] = {
    ("onnx", Task.VISION): {"device": "cpu"},
    ("onnx", Task.STT): {"device": "cpu"},
    ("gguf", Task.STT): {"gpu": False},
}
#: What lets the GPU's runtime load an engine that was not built here.
_TRUST: Final[Mapping[str, Mapping[str, Any]]] = {"tensorrt": {"trust": True}}
#: Seconds that one figure takes, unless said otherwise.
SECONDS: Final = 1.5
_SENTENCE: Final = "What is seven times eight? What is twenty-three plus nineteen?"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        name: what it is called on the command line ("detect").
        task: its task.
        ability: what it does within its task; None where that says nothing.
        batches: images in one call, one line of the table each; empty for speech.
    """

    name: str
    task: Literal[Task.VISION, Task.STT]
    ability: str | None = None
    batches: tuple[int, ...] = ()


SUBJECTS: Final = (
    Subject("detect", Task.VISION, "detect", (1, 8, 64)),
    Subject("classify", Task.VISION, "classify", (1, 8, 64)),
    Subject("speech", Task.STT),
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the models are shown.

    Attributes:
        images: pictures, as many as the largest batch has.
        audio: what is transcribed; None where nothing is.
        heard: where that came from, for people.
        models: for a subject's name, the model to measure; the task's default one otherwise.
        engines: for a subject's name, what the GPU's runtime loads in place of that model.
    """

    images: tuple[Image, ...]
    audio: Audio | None
    heard: str
    models: Mapping[str, str] = field(default_factory=dict)
    engines: Mapping[str, Path] = field(default_factory=dict)


def model_lines(machine: Machine, subject: Subject, inputs: Inputs, *, seconds: float = SECONDS) -> list[Line]:
    """A subject's figures, each on the CPU and on the GPU.

    Args:
        machine: opens the models.
        subject: what is measured.
        inputs: what it is measured with.
        seconds: how long one figure takes.
    """
    cpu = _side(machine, subject, inputs, seconds, on_gpu=False)
    gpu = _side(machine, subject, inputs, seconds, on_gpu=True)
    return [Line(what, cpu[what], gpu[what]) for what in cpu]


def _side(
    machine: Machine, subject: Subject, inputs: Inputs, seconds: float, *, on_gpu: bool
) -> dict[str, Figure | str]:
    names = {f"{subject.name}, batch {batch}": batch for batch in subject.batches} or {subject.name: 1}
    backend = attempt(lambda: _open(machine, subject, inputs, on_gpu=on_gpu))
    if isinstance(backend, str):
        return dict.fromkeys(names, backend)
    with backend:
        return {what: attempt(_measure(backend, inputs, batch, seconds)) for what, batch in names.items()}


def _open(machine: Machine, subject: Subject, inputs: Inputs, *, on_gpu: bool) -> Backend:
    runtime, options, model = _choose(machine, subject, inputs, on_gpu=on_gpu)
    return machine.open(subject.task, model, ability=subject.ability, runtime=runtime, **options)


def _choose(
    machine: Machine, subject: Subject, inputs: Inputs, *, on_gpu: bool
) -> tuple[str, dict[str, Any], str | Path | None]:
    """The runtime, its options and the model, for one of the two sides.

    Raises:
        PajamasError: no runtime serves it there; the message gives the reasons.
    """
    model: str | Path | None = inputs.models.get(subject.name)
    if on_gpu:
        model = inputs.engines.get(subject.name, model)
    entry = machine.find(model, subject.task, subject.ability)
    found = [
        candidate
        for candidate in machine.selection(subject.task, entry).candidates
        if (candidate.runtime in GPU_RUNTIMES) is on_gpu
    ]
    usable = next((candidate for candidate in found if candidate.usable), None)
    if usable is None:
        raise Unsupported(_why(found) or "No runtime for it is installed.")
    if not on_gpu:
        return usable.runtime, dict(_ON_CPU.get((usable.runtime, subject.task), {})), model
    # An engine is code; whoever names one vouches for it.
    return usable.runtime, dict(_TRUST.get(usable.runtime, {})) if subject.name in inputs.engines else {}, model


def _why(candidates: list[Candidate]) -> str:
    return "; ".join(str(candidate) for candidate in candidates)


def _measure(backend: Backend, inputs: Inputs, batch: int, seconds: float) -> Callable[[], Figure]:
    note = ", ".join(str(backend.details[key]) for key in ("device", "precision") if backend.details.get(key))
    note = f"{backend.runtime} on {note}" if note else backend.runtime

    def look() -> Figure:
        assert isinstance(backend, VisionBackend)
        images = list(inputs.images[:batch])
        work = backend.detect if "detect" in backend.spec.tasks else backend.classify
        taken = paced(lambda: work(images), seconds=seconds)
        return Figure.of([batch / each for each in taken], "images/s", note)

    def hear() -> Figure:
        assert isinstance(backend, STTBackend)
        audio = inputs.audio
        assert audio is not None
        taken = paced(lambda: backend.transcribe(audio), seconds=seconds)
        return Figure.of([audio.duration / each for each in taken], "s of audio/s", f"{note}, {inputs.heard}")

    return hear if isinstance(backend, STTBackend) else look


def drawn_images(count: int, *, width: int = 640, height: int = 480) -> tuple[Image, ...]:
    """Pictures with a few rectangles each, no two alike."""
    random = np.random.default_rng(640)
    images = []
    for _ in range(count):
        pixels = np.full((height, width, 3), random.integers(90, 220, 3), np.uint8)
        for _ in range(4):
            left, top = random.integers(0, width - 80), random.integers(0, height - 80)
            pixels[top : top + random.integers(30, 80), left : left + random.integers(30, 80)] = random.integers(
                0, 255, 3
            )
        images.append(Image(pixels))
    return tuple(images)


def some_audio(machine: Machine, file: Path | None = None) -> tuple[Audio, str]:
    """What is transcribed, and where it came from: a file, a voice of this machine, or a made-up sound.

    Args:
        machine: may have a voice.
        file: a WAV file with 16 bits a sample.

    Raises:
        BadInput: the file cannot be read.
    """
    if file is not None:
        return read_wav(file), file.name
    try:
        with machine.open(Task.TTS) as voice:
            return voice.speak(_SENTENCE), "spoken by this machine"
    except PajamasError:
        return humming(), "a made-up sound"


def read_wav(path: Path) -> Audio:
    """A WAV file with 16 bits a sample; of several channels the first.

    Raises:
        BadInput: there is no such file, or it is another kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise BadInput(f"{path} has {8 * file.getsampwidth()} bits a sample.", hint="Make it a WAV of 16 bits.")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[:: file.getnchannels()]
            return Audio.from_pcm16(samples.astype(np.int16), file.getframerate())
    except (OSError, EOFError, wave.Error) as error:
        raise BadInput(f"{path} is no WAV file that can be read: {error}.") from None


def humming(seconds: float = 5.0, rate: int = 16_000) -> Audio:
    """A tone that swells like syllables; a model hears no words in it, but has to look for them."""
    times = np.arange(int(seconds * rate)) / rate
    swell = np.clip(np.sin(2 * math.pi * 3 * times), 0, 1)
    tone = sum(np.sin(2 * math.pi * pitch * times) / harmonic for harmonic, pitch in ((1, 140), (3, 700), (6, 1220)))
    return Audio((0.3 * swell * tone).astype(np.float32), rate)
