"""What the abstract backends do for every runtime, seen with backends that have no model."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from llama_pajamas_run_core.errors import BadInput, InferenceError
from llama_pajamas_run_core.testing.fakes import FakeBatchLLM, FakeLLM, FakeSTT, FakeTTS, FakeVision
from llama_pajamas_run_core.testing.stt import babble
from llama_pajamas_run_core.types.audio import Audio, SpeakOptions, TranscribeOptions
from llama_pajamas_run_core.types.chat import Delta, GenerationOptions, GenerationRequest
from llama_pajamas_run_core.types.vision import Image

MODEL = Path(__file__)


class Forgetful(FakeLLM):
    def _generate(self, request: GenerationRequest) -> Iterator[Delta]:
        yield Delta("half an answer")


def test_a_model_that_stops_without_an_end_is_an_error_and_no_endless_wait() -> None:
    with Forgetful(MODEL) as llm, pytest.raises(InferenceError, match="without saying why"):
        llm.chat("Hello!")


@pytest.mark.parametrize("kind", [FakeLLM, FakeBatchLLM])
def test_one_stop_string_needs_no_list(kind: type[FakeLLM]) -> None:
    assert GenerationOptions(stop="END").stop == ("END",)
    with kind(MODEL) as llm:
        assert llm.generate("one Estonian END two", stop="END").text == "one Estonian "


def test_a_text_alone_is_no_list_of_texts() -> None:
    with FakeLLM(MODEL) as llm, pytest.raises(BadInput, match="a list") as raised:
        llm.embed("hello")
    assert raised.value.param == "input"
    with FakeVision(MODEL, does="embed") as vision, pytest.raises(BadInput, match="a list"):
        vision.embed_text("a red ball")


@pytest.mark.parametrize(("does", "ask"), [("detect", "detect"), ("classify", "classify"), ("embed", "embed")])
def test_an_image_alone_is_no_list_of_images(does: str, ask: str) -> None:
    with FakeVision(MODEL, does=does) as vision, pytest.raises(BadInput, match="a list") as raised:
        getattr(vision, ask)(Image(np.zeros((4, 4, 3), np.uint8)))
    assert raised.value.param == "images"


def test_vectors_that_are_no_numbers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = np.full((1, 3), np.nan, np.float32)

    def vectors(self: object, inputs: Sequence[object]) -> tuple[npt.NDArray[np.float32], int]:
        return broken, 1

    monkeypatch.setattr(FakeLLM, "_embed", vectors)
    with FakeLLM(MODEL) as llm, pytest.raises(InferenceError, match="not finite"):
        llm.embed(["hello"])
    monkeypatch.setattr(FakeVision, "_encode_text", lambda self, texts: broken)
    with FakeVision(MODEL, does="embed") as vision, pytest.raises(InferenceError, match="not finite"):
        vision.embed_text(["hello"])


def test_half_a_surrogate_pair_reaches_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(self: object, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        seen.extend(texts)
        return np.ones((len(texts), 3), np.float32)

    def speak(self: FakeTTS, text: str, options: SpeakOptions) -> Iterator[Audio]:
        seen.append(text)
        yield Audio(np.zeros(1, np.float32), self.rate)

    monkeypatch.setattr(FakeVision, "_encode_text", look)
    monkeypatch.setattr(FakeTTS, "_speak", speak)
    with FakeVision(MODEL, does="embed") as vision:
        vision.embed_text(["\ud800 a"])
    with FakeTTS(MODEL) as tts:
        tts.speak("b \udfff")
    assert seen == ["? a", "b ?"]


def test_fields_go_over_options() -> None:
    options = TranscribeOptions(language="de", word_times=True)
    audio = babble(2.0)
    with FakeSTT(MODEL) as stt:
        assert stt.transcribe(audio, options, language="en") == stt.transcribe(audio, replace(options, language="en"))
        assert next(stt.stream(audio, options, word_times=False)).words == ()
    with FakeTTS(MODEL) as tts:
        fast = tts.speak("one two", SpeakOptions(voice="low"), speed=2.0)
        assert fast.duration == pytest.approx(tts.speak("one two", voice="low").duration / 2, rel=0.01)


def test_an_unknown_task_of_a_transcription_is_refused() -> None:
    wrong: Any = "translte"
    with FakeSTT(MODEL) as stt, pytest.raises(BadInput, match="transcribe or translate") as raised:
        stt.transcribe(babble(1.0), task=wrong)
    assert raised.value.param == "task"


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_silences_nothing(broken: float) -> None:
    audio = babble(4.0)
    samples = audio.samples.copy()
    samples[100] = broken
    with FakeSTT(MODEL) as stt:
        assert stt.transcribe(Audio(samples, audio.rate)).text == stt.transcribe(audio).text
