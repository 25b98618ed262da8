"""``/v1/audio/*``: transcription, translation, speech, voices."""

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.schemas.base import Wire
from llama_pajamas_run_core.server.schemas.languages import language_code, language_name
from llama_pajamas_run_core.server.wire import finite
from llama_pajamas_run_core.types.audio import Segment, SpeakOptions, TranscribeOptions, Transcript, Voice

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
SpeechFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
Granularity = Literal["word", "segment"]


class TranscriptionForm(BaseModel):
    """A recording to be transcribed: the fields of a multipart form, whose values are all text."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)

    file: UploadFile
    model: str
    language: Annotated[str, Field(max_length=40)] | None = None
    prompt: Annotated[str, Field(max_length=20_000)] | None = None
    response_format: TranscriptFormat = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    timestamp_granularities: Annotated[
        list[Granularity],
        Field(validation_alias=AliasChoices("timestamp_granularities[]", "timestamp_granularities"), max_length=2),
    ] = []
    stream: bool = False

    @field_validator("language", "prompt", "temperature", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return None if value == "" else value  # an empty form field was left out

    @model_validator(mode="after")
    def _consistent(self) -> "TranscriptionForm":
        if self.stream and self.response_format not in ("json", "text"):
            raise BadInput(f"A stream has no {self.response_format}: use json.", param="response_format")
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise BadInput(
                "timestamp_granularities needs response_format verbose_json.", param="timestamp_granularities"
            )
        return self

    @property
    def granularities(self) -> frozenset[Granularity]:
        """The times asked for."""
        return frozenset(self.timestamp_granularities or ("segment",))

    def to_core(self, task: Literal["transcribe", "translate"]) -> TranscribeOptions:
        """The core's options."""
        return TranscribeOptions(
            language=language_code(self.language) if self.language else None,
            task=task,
            prompt=self.prompt,
            temperature=self.temperature,
            word_times="word" in self.granularities,
        )


def plain(transcript: Transcript) -> dict[str, Any]:
    """The format "json"."""
    return {"text": transcript.text, "usage": _spent(transcript)}


def verbose(transcript: Transcript, granularities: frozenset[Granularity]) -> dict[str, Any]:
    """The format "verbose_json": times in seconds."""
    reply: dict[str, Any] = {
        "task": transcript.task,
        "language": language_name(transcript.language),
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if "segment" in granularities:
        reply["segments"] = [_segment(index, segment) for index, segment in enumerate(transcript.segments)]
    if "word" in granularities:
        reply["words"] = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)} for word in transcript.words
        ]
    return {**reply, "usage": _spent(transcript)}


def text_delta(text: str) -> dict[str, Any]:
    """One event of a streamed transcript."""
    return {"type": "transcript.text.delta", "delta": text}


def text_done(transcript: Transcript) -> dict[str, Any]:
    """The last event of a streamed transcript."""
    return {"type": "transcript.text.done", "text": transcript.text, "usage": _spent(transcript)}


def _spent(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(transcript.duration, 3)}


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": index,
        "seek": int(segment.start * 100),  # in Whisper's frames of 10 ms
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": finite(segment.avg_logprob),
        "compression_ratio": finite(segment.compression_ratio),
        "no_speech_prob": finite(segment.no_speech_prob),
    }


class VoiceId(Wire):
    """A voice, the long way."""

    id: str


class SpeechRequest(Wire):
    """Text to be spoken."""

    model: str
    input: Annotated[str, Field(min_length=1, max_length=4096)]
    voice: str | VoiceId | None = None
    response_format: SpeechFormat = "mp3"
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: Annotated[str, Field(max_length=4096)] | None = None
    language: Annotated[str, Field(max_length=40)] | None = None

    @field_validator("response_format", "speed", "stream_format", mode="before")
    @classmethod
    def _absent(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value

    @field_validator("input")
    @classmethod
    def _blank(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("there is nothing to be spoken")
        return text

    def to_core(self) -> SpeakOptions:
        """The core's options. ``instructions`` are for voices that follow them; the others leave them be."""
        voice = self.voice.id if isinstance(self.voice, VoiceId) else self.voice
        return SpeakOptions(voice=voice, speed=self.speed, language=self.language)


def audio_delta(data: str) -> dict[str, Any]:
    """One event of streamed speech; the data is base64."""
    return {"type": "speech.audio.delta", "audio": data}


def audio_done(text: str) -> dict[str, Any]:
    """The last event of streamed speech. Voices read characters, not tokens; they are counted as such."""
    usage = {"input_tokens": len(text), "output_tokens": 0, "total_tokens": len(text)}
    return {"type": "speech.audio.done", "usage": usage}


def voices(model: str, known: tuple[Voice, ...]) -> dict[str, Any]:
    """The voices of a model, the default one first."""
    data = [
        {
            "id": voice.id,
            "object": "voice",
            "name": voice.name,
            "languages": list(voice.languages),
            "gender": voice.gender,
            "model": model,
        }
        for voice in known
    ]
    return {"object": "list", "data": data}
