"""``llama-pajamas voice``."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from llama_pajamas_run_core.cli.files import read, write
from llama_pajamas_run_core.codecs.audio import decode_audio, encode_audio
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.pipelines.voice import Done, Heard, Spoken, turn
from llama_pajamas_run_core.types.audio import Audio, SpeakOptions
from llama_pajamas_run_core.types.chat import GenerationOptions
from llama_pajamas_run_core.types.tasks import Task


def voice(
    question: Annotated[Path, typer.Argument(help="An audio file with the question.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the spoken answer goes (wav).")] = Path("answer.wav"),
    stt: Annotated[str | None, typer.Option(help="The model that hears.")] = None,
    llm: Annotated[str | None, typer.Option(help="The model that thinks.")] = None,
    tts: Annotated[str | None, typer.Option(help="The model that speaks.")] = None,
    voice: Annotated[str | None, typer.Option(help="The voice of the answer.")] = None,
) -> None:
    """Answer a spoken question aloud: audio, transcript, reply, audio."""
    machine = Machine()
    audio = decode_audio(read(question))
    with (
        machine.open(Task.STT, stt) as hears,
        machine.open(Task.LLM, llm) as thinks,
        machine.open(Task.TTS, tts) as speaks,
    ):
        pieces: list[Audio] = []
        for event in turn(
            hears, thinks, speaks, audio, think=GenerationOptions(temperature=0.0), speak=SpeakOptions(voice=voice)
        ):
            if isinstance(event, Heard):
                typer.echo(f"heard   {event.transcript.text}")
            elif isinstance(event, Spoken):
                pieces.append(event.audio)
            elif isinstance(event, Done):
                typer.echo(f"replied {event.reply}")
                typer.echo(f"first audio after {event.timings.first_audio * 1000:.0f} ms")
        rate = speaks.rate
    samples = np.concatenate([piece.samples for piece in pieces]) if pieces else np.zeros(0, np.float32)
    write(out, encode_audio(Audio(samples, rate), "wav"))
