"""``/v1/audio/*``: transcriptions, translations, speech, voices."""

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Form, Request
from starlette.datastructures import UploadFile
from starlette.responses import PlainTextResponse, Response

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.codecs.audio import MEDIA_TYPES, AudioEncoder, decode_audio
from llama_pajamas_run_core.codecs.subtitles import to_srt, to_vtt
from llama_pajamas_run_core.errors import BadInput, TooLarge
from llama_pajamas_run_core.server.feed import Feed, Streamed, while_connected
from llama_pajamas_run_core.server.media import naming
from llama_pajamas_run_core.server.schemas import audio as wire
from llama_pajamas_run_core.server.services import Served, Services
from llama_pajamas_run_core.server.sse import event, respond_with_events
from llama_pajamas_run_core.server.wire import Json
from llama_pajamas_run_core.types.audio import Audio, Segment, TranscribeOptions, Transcript
from llama_pajamas_run_core.types.tasks import Task

router = APIRouter(prefix="/v1/audio", tags=["audio"])

#: Seconds of silence that stand for text with nothing to be said, so that the file is one that players open.
_NOTHING_SAID = 0.1


@router.post("/transcriptions")
async def transcriptions(
    form: Annotated[wire.TranscriptionForm, Form()], request: Request, services: Served
) -> Response:
    """Write down what is said."""
    return await _transcribed(form, "transcribe", request, services)


@router.post("/translations")
async def translations(form: Annotated[wire.TranscriptionForm, Form()], request: Request, services: Served) -> Response:
    """Write down in English what is said."""
    return await _transcribed(form, "translate", request, services)


async def _transcribed(
    form: wire.TranscriptionForm, task: Literal["transcribe", "translate"], request: Request, services: Services
) -> Response:
    entry = services.model(form.model)
    data = await read_upload(form.file, services)
    with naming("file"):
        audio = await services.workers.decode(lambda: decode_audio(data, services.settings.limits.decoded))
    heard = _hear(services, entry, audio, form.to_core(task))
    if form.stream:
        return await respond_with_events(request, services, _transcript_events(heard))
    transcript = await while_connected(request, _whole(heard), services.metrics.disconnect)
    match form.response_format:
        case "json":
            return Json(wire.plain(transcript))
        case "verbose_json":
            return Json(wire.verbose(transcript, form.granularities))
        case "text":
            return _text(transcript.text + "\n")
        case "srt":
            return _text(to_srt(transcript))
        case "vtt":
            return _text(to_vtt(transcript), "text/vtt")


def _text(text: str, media_type: str = "text/plain") -> Response:
    return PlainTextResponse(text.encode("utf-8", "replace"), media_type=f"{media_type}; charset=utf-8")


async def _hear(
    services: Services, entry: ModelEntry, audio: Audio, options: TranscribeOptions
) -> AsyncIterator[Segment | Transcript]:
    """The segments as they are recognized, then all of it."""
    async with services.lease(entry, Task.STT) as stt:
        language = options.language or "en"
        segments: list[Segment] = []

        def work() -> Iterator[Segment | str]:
            known = options.language or stt.detect_language(audio)
            yield known
            yield from stt.stream(audio, replace(options, language=known))

        async with aclosing(services.workers.iterate(work)) as items:
            async for item in items:
                if isinstance(item, str):
                    language = item
                else:
                    segments.append(item)
                    yield item
    yield Transcript(tuple(segments), language, audio.duration, options.task)


async def _whole(heard: AsyncIterator[Segment | Transcript]) -> Transcript:
    async for item in heard:
        if isinstance(item, Transcript):
            return item
    raise AssertionError("a transcript always ends with itself")


async def _transcript_events(heard: AsyncIterator[Segment | Transcript]) -> AsyncIterator[bytes]:
    begun = False
    async for item in heard:
        if isinstance(item, Transcript):
            yield event(wire.text_done(item))
        elif item.text:
            yield event(wire.text_delta(f" {item.text}" if begun else item.text))
            begun = True


@router.post("/speech")
async def speech(body: wire.SpeechRequest, request: Request, services: Served) -> Response:
    """Speak a text; the sound is sent as it is made."""
    entry = services.model(body.model)
    sound = _speak(services, entry, body)
    if body.stream_format == "sse":
        return await respond_with_events(request, services, _speech_events(sound, body.input))
    feed = Feed(sound)
    try:
        await while_connected(request, feed.started(None), services.metrics.disconnect)
    except BaseException:
        await feed.close()
        raise
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    media_type = MEDIA_TYPES[body.response_format]
    return Streamed(feed, media_type=media_type, headers=headers, on_leave=services.metrics.disconnect)


async def _speak(services: Services, entry: ModelEntry, body: wire.SpeechRequest) -> AsyncIterator[bytes]:
    """The encoded sound, piece by piece."""
    async with services.lease(entry, Task.TTS) as tts:

        def work() -> Iterator[bytes]:
            encoder = AudioEncoder(body.response_format, tts.rate)
            silent = True
            for piece in tts.stream(body.input, body.to_core()):
                silent = silent and not len(piece.samples)
                yield encoder.push(piece)
            if silent:
                yield encoder.push(Audio(np.zeros(int(tts.rate * _NOTHING_SAID), np.float32), tts.rate))
            yield encoder.finish()

        async with aclosing(services.workers.iterate(work)) as pieces:
            async for data in pieces:
                if data:
                    yield data


async def _speech_events(sound: AsyncIterator[bytes], text: str) -> AsyncIterator[bytes]:
    async for data in sound:
        yield event(wire.audio_delta(base64.b64encode(data).decode()))
    yield event(wire.audio_done(text))


@router.get("/voices")
async def voices(services: Served, model: str | None = None) -> Response:
    """The voices of a text-to-speech model, the default one first."""
    entry = services.model_for(Task.TTS, model)
    async with services.lease(entry, Task.TTS) as tts:
        return Json(wire.voices(entry.id, tts.voices))


async def read_upload(file: UploadFile, services: Services) -> bytes:
    """The bytes of an uploaded file.

    Raises:
        BadInput: it is empty.
        TooLarge: it is larger than an upload may be.
    """
    limit = services.settings.limits.upload
    data = await file.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"The file is larger than {limit // 2**20} MiB.", param="file")
    if not data:
        raise BadInput("The file is empty.", param="file")
    return data
