"""The speech model's word errors in every runtime, on the same held-out clips."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.errors import PajamasError
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.text.word_errors import word_error_rate
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_starter.fidelity import coreml
from llama_pajamas_starter.fidelity.subjects import Subject, catalogued, reason
from llama_pajamas_starter.speech.data import RATE, padded
from llama_pajamas_starter.speech.evaluate import held_out
from llama_pajamas_starter.speech.sentences import words_of

MODEL: Final = "starter-speech"
WHAT: Final = "WER, clean held-out speech"
#: The most word errors of a runtime that computes in 16 or 32 bits.
FLOOR: Final = 0.05
#: Whose transcripts the others are compared with, and those that hear windows of half a minute.
_FIRST: Final = "whisper.cpp, F16"
_WHOLE: Final = "ONNX Runtime, FP32, 30 s windows"
#: Seconds of silence before and after every clip.
_SILENCE: Final = 0.3
#: No seed of the other evaluations.
_SEED: Final = 40_000


def rows(machine: Machine, clips: int) -> Iterator[Row]:
    """A row for each runtime and precision.

    The model heard windows of all lengths in training, and is shown as much as a clip is long, except by Core ML, whose
    encoder computes half a minute whatever there is: it is compared with a runtime that is made to do so too.
    """
    spoken = held_out(clips, _SEED)
    heard: list[tuple[str, Audio]] = [
        (item.text, Audio(padded(item.waveform(), _SILENCE, _SILENCE), RATE)) for item in spoken
    ]
    made: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(machine):
            floor = FLOOR if subject.exact else None
            try:
                with subject.open(Path(folder)) as backend:
                    begun = time.perf_counter()
                    texts = [backend.transcribe(audio).text for _, audio in heard]
                    spent = time.perf_counter() - begun
            except PajamasError as error:
                yield Row(MODEL, WHAT, None, floor, 0, 0.0, "lower", subject=subject.name, note=reason(error))
                continue
            wer = word_error_rate((text, told) for (text, _), told in zip(heard, texts, strict=True))
            other = _WHOLE if subject.name in coreml.NAMES.values() else _FIRST
            note = _likeness(texts, other, made[other]) if other in made else ""
            made[subject.name] = texts
            yield Row(MODEL, WHAT, wer, floor, len(texts), spent, "lower", subject=subject.name, note=note)


def subjects(machine: Machine) -> list[Subject[STTBackend]]:
    """The runtimes and precisions."""

    def one(name: str, runtime: str, **options: object) -> Subject[STTBackend]:
        return Subject(name, catalogued(machine, Task.STT, MODEL, runtime, **options))

    return [
        one(_FIRST, "gguf"),
        one("MLX, FP32", "mlx", dtype="float32"),
        one("MLX, FP16", "mlx", dtype="float16"),
        one("ONNX Runtime, FP32", "onnx"),
        one(_WHOLE, "onnx", short_context=False),
        *(Subject(name, coreml.speech(kind), exact=kind == "none") for kind, name in coreml.NAMES.items()),
        one("TensorRT, FP16", "tensorrt", level=1),  # to be fast is not asked of it here
    ]


def _likeness(texts: Sequence[str], other: str, others: Sequence[str]) -> str:
    same = sum(words_of(one) == words_of(two) for one, two in zip(texts, others, strict=True))
    return f"the same words as {other} in {same} of {len(texts)} clips"
