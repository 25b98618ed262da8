"""``llama-pajamas eval starter``: every starter model on held-out data, in the runtimes of this machine."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_starter.chat import evaluate as chat
from llama_pajamas_starter.speech import evaluate as speech
from llama_pajamas_starter.vision import evaluate as vision

#: Utterances in each condition.
_UTTERANCES = 150

T = TypeVar("T")


def evaluate(machine: Machine) -> Iterator[Row]:
    """Measure every starter model on held-out data, in the runtimes that this machine chooses."""
    with machine.open(Task.LLM, "starter-chat") as llm:
        yield from chat_rows(llm)
    with machine.open(Task.STT, "starter-speech") as stt:
        yield from speech_rows(stt)
    with machine.open(Task.VISION, "starter-detect") as detector:
        yield from detector_rows(detector)
    with machine.open(Task.VISION, "starter-classify") as classifier:
        yield from classifier_rows(classifier)
    with machine.open(Task.VISION, "starter-embed") as embedder:
        yield from embedder_rows(embedder)


def chat_rows(backend: LLMBackend, per_family: int = 30) -> Iterator[Row]:
    """The chat model: each family, all of them, and how much of the JSON is JSON."""
    report, seconds = _timed(lambda: chat.evaluate(backend, per_family=per_family))
    name, cases = "starter-chat", sum(total for _, _, total in report.rows())
    for family, right, total in report.rows():
        yield Row(name, f"exact: {family}", right / total, None, total, seconds * total / cases)
    yield Row(name, "exact, all families", report.exact_share, chat.EXACT_FLOOR, cases, seconds)
    yield Row(name, "valid JSON where asked", report.json_share, chat.JSON_FLOOR, report.json[1], seconds)


def speech_rows(backend: STTBackend, utterances: int = _UTTERANCES) -> Iterator[Row]:
    """The speech model: word error rates on unseen sentences in unseen voices, and its word times."""
    scores, seconds = _timed(
        lambda: speech.evaluate(lambda audio: backend.transcribe(audio, word_times=True), count=utterances)
    )
    name, cases = "starter-speech", scores.utterances
    yield Row(name, "WER, clean", scores.wer_clean, 0.05, cases, seconds, "lower")
    for noise, wer in scores.wer_noise.items():
        yield Row(name, f"WER, {noise} noise at 10 dB", wer, 0.10, cases, seconds, "lower")
    yield Row(name, "WER, the default system voice", scores.wer_default_voice, 0.05, cases, seconds, "lower")
    if scores.word_time_median is not None and scores.word_time_within is not None:
        median = scores.word_time_median
        yield Row(name, "word times, median error", median, 0.2, cases, seconds, "lower", "s")
        yield Row(name, "word times within 0.2 s", scores.word_time_within, None, cases, seconds)
    yield Row(name, "real-time factor", scores.real_time_factor, None, cases, seconds, "lower", "")


def detector_rows(backend: VisionBackend, scenes: int = 300) -> Iterator[Row]:
    """The detector on held-out scenes."""
    scores, seconds = _timed(lambda: vision.detector(backend, scenes))
    yield Row("starter-detect", "mAP50", scores["mAP50"], 0.95, scenes, seconds)
    yield Row("starter-detect", "mAP50-95", scores["mAP50-95"], None, scenes, seconds)


def classifier_rows(backend: VisionBackend, images: int = 1000) -> Iterator[Row]:
    """The classifier on held-out images of one object."""
    scores, seconds = _timed(lambda: vision.classifier(backend, images))
    yield Row("starter-classify", "top-1", scores["top-1"], 0.97, images, seconds)


def embedder_rows(backend: VisionBackend, sets: int = 5) -> Iterator[Row]:
    """The embedder: retrieval among a hundred captions."""
    scores, seconds = _timed(lambda: vision.embedder(backend, sets))
    name, cases = "starter-embed", sets * 100
    yield Row(name, "text to image R@1 among 100", scores["text-to-image R@1"], 0.9, cases, seconds)
    yield Row(name, "image to text R@1 among 100", scores["image-to-text R@1"], None, cases, seconds)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
