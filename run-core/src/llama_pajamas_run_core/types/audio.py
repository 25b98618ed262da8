"""Sound, and what is said in it."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

#: Whether the text is in the language spoken, or translated to English.
TranscribeTask = Literal["transcribe", "translate"]


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Mono sound.

    Attributes:
        samples: float32, shape [n], nominally within -1 to 1.
        rate: samples per second.
    """

    samples: npt.NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise TypeError(f"samples must be float32 of shape [n], not {self.samples.dtype} {self.samples.shape}")
        if self.rate <= 0:
            raise ValueError(f"rate must be positive, not {self.rate}")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate

    @classmethod
    def from_pcm16(cls, pcm: bytes | npt.NDArray[np.int16], rate: int) -> "Audio":
        """From signed 16-bit little-endian samples."""
        ints = np.frombuffer(pcm, "<i2") if isinstance(pcm, bytes) else pcm
        return cls(ints.astype(np.float32) / 32768.0, rate)

    def to_pcm16(self) -> bytes:
        """As signed 16-bit little-endian samples; louder than full scale is clipped."""
        return (np.clip(self.samples, -1.0, 32767 / 32768) * 32768.0).round().astype("<i2").tobytes()


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its place in the audio.

    Attributes:
        text: the word, without surrounding spaces, with its punctuation.
        start: seconds from the beginning of the audio.
        end: seconds from the beginning of the audio.
        probability: 0 to 1, or None where the runtime gives none.
    """

    text: str
    start: float
    end: float
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech, in Whisper's sense.

    Attributes:
        text: what was said, stripped.
        start: seconds from the beginning of the audio.
        end: seconds from the beginning of the audio.
        words: the words with their times; empty unless asked for.
        tokens: the model's token ids for the text.
        avg_logprob: mean natural-log probability of the tokens.
        no_speech_prob: probability that there is no speech, 0 to 1.
        compression_ratio: length of the text over its zlib-compressed length; high for looping output.
        temperature: the sampling temperature that produced the segment.
    """

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()
    tokens: tuple[int, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything said in one piece of audio.

    Attributes:
        segments: in order of time.
        language: ISO 639-1 code of the language spoken ("en").
        duration: length of the audio in seconds.
        task: whether the text is in the language spoken or translated to English.
    """

    segments: tuple[Segment, ...]
    language: str
    duration: float
    task: TranscribeTask = "transcribe"

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order; empty unless word times were asked for."""
        return tuple(word for segment in self.segments for word in segment.words)


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """How to transcribe.

    Attributes:
        language: ISO 639-1 code of the language spoken, or None to detect it.
        task: "transcribe", or "translate" into English.
        prompt: text that precedes the audio, to steer spelling and style.
        temperature: 0 to 1; None lets the model decide (0, with fallbacks).
        word_times: whether segments carry words with times.
    """

    language: str | None = None
    task: TranscribeTask = "transcribe"
    prompt: str | None = None
    temperature: float | None = None
    word_times: bool = False


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that a text-to-speech model offers.

    Attributes:
        id: the name by which it is asked for.
        name: a name for people.
        languages: BCP 47 tags ("en-US"), most suited first.
        gender: "female", "male" or None where unknown.
    """

    id: str
    name: str
    languages: tuple[str, ...] = field(default=())
    gender: Literal["female", "male"] | None = None


@dataclass(frozen=True, slots=True)
class SpeakOptions:
    """How to speak.

    Attributes:
        voice: id of one of the backend's voices, or None for its default. OpenAI's voice names are understood too.
        speed: 0.25 to 4, where 1 is the voice's own pace.
        language: BCP 47 tag, where a voice speaks several; None for the voice's own.
    """

    voice: str | None = None
    speed: float = 1.0
    language: str | None = None
