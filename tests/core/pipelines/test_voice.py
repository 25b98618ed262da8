"""A spoken turn over fakes: order, overlap, errors, interruption."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from llama_pajamas_run_core.backends import LLMBackend, STTBackend, TTSBackend
from llama_pajamas_run_core.errors import InferenceError, PajamasError
from llama_pajamas_run_core.pipelines.describe import describe, detections_as_text
from llama_pajamas_run_core.pipelines.voice import Done, Heard, Spoken, VoiceEvent, Written, turn
from llama_pajamas_run_core.testing.fakes import FakeLLM, FakeSTT, FakeTTS, FakeVision
from llama_pajamas_run_core.types.audio import Audio, Segment
from llama_pajamas_run_core.types.vision import Box, Detection, Image

#: Two seconds of tones with pauses: what the recognizer's gate takes for speech. A steady tone would be noise to it.
_TIMES = np.arange(32_000, dtype=np.float32) / 16_000
QUESTION = Audio(np.sin(2 * np.pi * 220 * _TIMES) / 2 * (_TIMES % 0.3 < 0.2), 16_000)


class Hears(FakeSTT):
    """A recognizer that always hears the same."""

    said = "One here. Two here. Three here."

    def _transcribe(self, audio: Audio, options: Any) -> Iterator[Segment]:
        yield Segment(self.said, 0.0, audio.duration)


@pytest.fixture
def model(tmp_path: Any) -> str:
    path = tmp_path / "fake"
    path.touch()
    return str(path)


@pytest.fixture
def cast(model: str) -> Iterator[tuple[STTBackend, LLMBackend, TTSBackend]]:
    with Hears(model) as stt, FakeLLM(model, pace=0.02) as llm, FakeTTS(model) as tts:
        yield stt, llm, tts


def of(events: list[VoiceEvent], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_turn_is_heard_written_and_spoken(cast: tuple[STTBackend, LLMBackend, TTSBackend]) -> None:
    events = list(turn(*cast, QUESTION))
    assert isinstance(events[0], Heard)
    assert events[0].transcript.text == Hears.said
    assert "".join(event.text for event in of(events, Written)) == Hears.said
    assert [event.sentence for event in of(events, Spoken) if event.sentence] == [
        "One here.",
        "Two here.",
        "Three here.",
    ]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.reply == Hears.said
    times = done.timings
    assert 0 < times.heard <= times.first_token <= times.first_sentence <= times.first_audio <= times.spoken
    assert times.first_token < times.written


def test_the_first_sentence_is_spoken_while_the_rest_is_written(
    cast: tuple[STTBackend, LLMBackend, TTSBackend],
) -> None:
    done = list(turn(*cast, QUESTION))[-1]
    assert isinstance(done, Done)
    assert done.timings.first_audio < done.timings.written


def test_silence_is_not_answered(cast: tuple[STTBackend, LLMBackend, TTSBackend]) -> None:
    events = list(turn(*cast, Audio(np.zeros(16_000, np.float32), 16_000)))
    assert [type(event) for event in events] == [Heard, Done]
    assert events[-1].reply == ""  # type: ignore[union-attr]


def test_an_error_of_a_stage_reaches_the_caller(model: str, cast: tuple[STTBackend, LLMBackend, TTSBackend]) -> None:
    stt, llm, _ = cast

    class Mute(FakeTTS):
        def _speak(self, text: str, options: Any) -> Iterator[Audio]:
            raise InferenceError("The voice broke.")
            yield

    with Mute(model) as tts, pytest.raises(InferenceError, match="The voice broke"):
        list(turn(stt, llm, tts, QUESTION))

    class Confused(Hears):
        said = "fail later"

    with Confused(model) as confused, FakeTTS(model) as tts, pytest.raises(PajamasError):
        list(turn(confused, llm, tts, QUESTION))


def test_an_interruption_stops_the_writer_and_the_speaker(cast: tuple[STTBackend, LLMBackend, TTSBackend]) -> None:
    stt, llm, tts = cast
    events = turn(stt, llm, tts, QUESTION)
    for event in events:
        if isinstance(event, Spoken):
            break
    start = time.perf_counter()
    events.close()  # type: ignore[attr-defined]
    assert time.perf_counter() - start < 1
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("voice-")]
    assert llm.chat("Still there?").text == "Still there?"


def test_a_picture_is_described_from_its_detections(model: str) -> None:
    found = Detection(3, "tree", 0.876, Box(1.2, 2.0, 30.6, 40.0))
    text = detections_as_text([found])
    assert text == '[{"label": "tree", "confidence": 0.88, "box": {"x1": 1, "y1": 2, "x2": 31, "y2": 40}}]'
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[10:30, 10:40] = 255
    with FakeVision(model) as vision, FakeLLM(model) as llm:
        answer = describe(vision, llm, Image(pixels), question="What is there?").result()
        listed = detections_as_text(vision.detect([Image(pixels)])[0])
    assert answer.text == f"{listed}\nWhat is there?"
