"""A fake recognizer of speech, a fake voice, and a fake look at pictures."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import InferenceError, LoadError
from llama_pajamas_run_core.testing.fakes.load import FakeLoad
from llama_pajamas_run_core.types.audio import Audio, Segment, SpeakOptions, TranscribeOptions, Voice, Word
from llama_pajamas_run_core.types.vision import VisionSpec, VisionTask


class FakeSTT(FakeLoad, STTBackend):
    """A fake speech recognizer: it counts, one word for each half second of sound.

    Load options:
        pace: seconds for each window.
    """

    runtime = "fake"

    def _load(self, path: Path, *, pace: float = 0.0, **how: Any) -> None:
        self._pretend_to_load(path, **how)
        self._pace = pace

    @property
    def languages(self) -> tuple[str, ...]:
        return ("en", "de")

    @property
    def translates(self) -> bool:
        return True

    def _transcribe(self, audio: Audio, options: TranscribeOptions) -> Iterator[Segment]:
        time.sleep(self._pace)
        count = max(int(audio.duration / 0.5), 1)
        words = tuple(
            Word(_number(i + 1), audio.duration * i / count, audio.duration * (i + 1) / count, 0.9)
            for i in range(count)
        )
        text = " ".join(word.text for word in words)
        yield Segment(
            text,
            0.0,
            audio.duration,
            words if options.word_times else (),
            tuple(range(count)),
            avg_logprob=-0.1,
            temperature=options.temperature or 0.0,
        )


class FakeTTS(FakeLoad, TTSBackend):
    """A fake voice: a short tone for each word, the pitch told by the voice.

    A sentence with "fail later" in it fails after its first word.

    Load options:
        pace: seconds for each sentence.
    """

    runtime = "fake"
    #: Seconds of tone and of pause for each word at speed 1.
    TONE, PAUSE = 0.2, 0.1

    def _load(self, path: Path, *, pace: float = 0.0, **how: Any) -> None:
        self._pretend_to_load(path, **how)
        self._pace = pace
        self.sentences = 0

    @property
    def rate(self) -> int:
        return 22_050

    @property
    def voices(self) -> tuple[Voice, ...]:
        return (
            Voice("low", "Low", ("en-US",), "male"),
            Voice("high", "High", ("en-US",), "female"),
        )

    def _speak(self, text: str, options: SpeakOptions) -> Iterator[Audio]:
        time.sleep(self._pace)
        self.sentences += 1
        pitch = 220.0 if options.voice == "low" else 440.0
        for index, _ in enumerate(text.split()):
            if index == 1 and "fail later" in text:
                raise InferenceError("the imagined loudspeaker at 0xdeadbeef is on fire")
            times = np.arange(int(self.rate * self.TONE / options.speed)) / self.rate
            tone = 0.5 * np.sin(2 * np.pi * pitch * times)
            pause = np.zeros(int(self.rate * self.PAUSE / options.speed))
            yield Audio(np.concatenate([tone, pause]).astype(np.float32), self.rate)


class FakeVision(FakeLoad, VisionBackend):
    """A fake look at colours. Its classes are red, green and blue.

    It detects the rectangle of one pure colour, or segments its pixels, classifies by the mean colour, and embeds
    pictures and colour names in one space.

    Load options:
        does: "detect", "segment", "classify" or "embed".
        pace: seconds for each batch.
    """

    runtime = "fake"
    LABELS = ("red", "green", "blue")

    def _load(self, path: Path, *, does: str = "detect", pace: float = 0.0, **how: Any) -> None:
        self._pretend_to_load(path, **how)
        if does not in ("detect", "segment", "classify", "embed"):
            raise LoadError(f"{path}: a fake look does not {does}.")
        self._does, self._pace = does, pace

    @property
    def spec(self) -> VisionSpec:
        tasks: dict[str, frozenset[VisionTask]] = {
            "detect": frozenset({"detect"}),
            "segment": frozenset({"detect", "segment"}),
            "classify": frozenset({"classify"}),
            "embed": frozenset({"embed", "embed_text"}),
        }
        if self._does == "detect":
            return VisionSpec(tasks["detect"], 64, 64, "letterbox", labels=self.LABELS, head="nms")
        if self._does == "segment":
            return VisionSpec(tasks["segment"], 64, 64, "letterbox", labels=self.LABELS, head="nms-seg")
        if self._does == "classify":
            return VisionSpec(tasks["classify"], 16, 16, "stretch", labels=self.LABELS, head="logits")
        return VisionSpec(tasks["embed"], 16, 16, "stretch", head="embedding")

    def _infer(self, batch: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        time.sleep(self._pace)
        if self._does in ("detect", "segment"):
            found = [_rectangles(picture) for picture in batch]
            most = max(len(boxes) for boxes in found)
            padded = [boxes + [[0.0] * 6] * (most - len(boxes)) for boxes in found]
            table = np.array(padded, np.float32).reshape(len(batch), most, 6)
            if self._does == "detect":
                return [table]
            # Each colour's own prototype: above 0 where the picture has just that colour.
            colours = np.stack([np.stack([_pure(picture, channel) for channel in range(3)]) for picture in batch])
            weights = np.eye(3, dtype=np.float32)[table[..., 5].astype(int)]
            return [np.concatenate([table, weights], axis=2), colours - np.float32(0.5)]
        colours = batch.mean(axis=(2, 3))
        return [colours * 10 if self._does == "classify" else colours]

    def _encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [[float(label in text) for label in self.LABELS] for text in texts]
        return np.array([row if any(row) else [1.0, 1.0, 1.0] for row in rows], np.float32)


def _rectangles(picture: npt.NDArray[np.float32]) -> list[list[float]]:
    """The rectangle around all pixels of each pure colour: x1, y1, x2, y2, score, class."""
    found: list[list[float]] = []
    for channel in range(3):
        rows, columns = np.nonzero(_pure(picture, channel))
        if len(rows):
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found.append([*map(float, box), 0.9 - 0.1 * channel, float(channel)])
    return found


def _pure(picture: npt.NDArray[np.float32], channel: int) -> npt.NDArray[np.bool_]:
    """Where a picture [3, h, w] has one colour alone."""
    others = [picture[other] for other in range(3) if other != channel]
    alone: npt.NDArray[np.bool_] = (picture[channel] > 0.8) & (others[0] < 0.3) & (others[1] < 0.3)
    return alone


def _number(value: int) -> str:
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return names[value] if value < len(names) else str(value)
