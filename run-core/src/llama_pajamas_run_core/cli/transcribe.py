"""``llama-pajamas transcribe``."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llama_pajamas_run_core.cli.files import read
from llama_pajamas_run_core.codecs.audio import decode_audio
from llama_pajamas_run_core.codecs.subtitles import to_srt, to_vtt
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.audio import TranscribeOptions, Transcript
from llama_pajamas_run_core.types.tasks import Task

Format = Literal["text", "json", "srt", "vtt"]


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files; - reads standard input.")],
    model: Annotated[str | None, typer.Option(help="Model id, or path of a model file.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639-1 code; without it, the language is detected.")] = None,
    translate: Annotated[bool, typer.Option(help="Translate into English.")] = False,
    words: Annotated[bool, typer.Option(help="With the times of words (json, srt, vtt).")] = False,
    format: Annotated[Format, typer.Option("--format", help="What to print.")] = "text",
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
) -> None:
    """Turn speech into text."""
    options = TranscribeOptions(language=language, task="translate" if translate else "transcribe", word_times=words)
    with Machine().open(Task.STT, model, runtime=runtime) as stt:
        for file in files:
            typer.echo(_shown(stt.transcribe(decode_audio(read(file)), options), format))


def _shown(transcript: Transcript, format: Format) -> str:
    if format == "srt":
        return to_srt(transcript)
    if format == "vtt":
        return to_vtt(transcript)
    if format == "text":
        return transcript.text
    segments = [
        {
            "start": segment.start,
            "end": segment.end,
            "text": segment.text,
            "words": [{"word": word.text, "start": word.start, "end": word.end} for word in segment.words],
        }
        for segment in transcript.segments
    ]
    return json.dumps({"text": transcript.text, "language": transcript.language, "segments": segments}, indent=2)
