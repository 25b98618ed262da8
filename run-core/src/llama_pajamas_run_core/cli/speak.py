"""``llama-pajamas speak``."""

from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_core.cli.files import read, write
from llama_pajamas_run_core.codecs.audio import MEDIA_TYPES, encode_audio
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task


def speak(
    text: Annotated[str | None, typer.Argument(help="What to say; - reads standard input.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write; its ending is the format.")] = Path(
        "speech.wav"
    ),
    model: Annotated[str | None, typer.Option(help="Model id, or path of a voice.")] = None,
    voice: Annotated[str | None, typer.Option(help="The voice.")] = None,
    speed: Annotated[float, typer.Option(help="0.25 to 4.")] = 1.0,
    voices: Annotated[bool, typer.Option(help="List the voices instead.")] = False,
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
) -> None:
    """Turn text into speech."""
    with Machine().open(Task.TTS, model, runtime=runtime) as tts:
        if voices:
            for known in tts.voices:
                typer.echo(f"{known.id:<28} {known.name} ({', '.join(known.languages)})")
            return
        if text is None:
            raise BadInput("There is nothing to say.", hint="Give the text, or - to read it from standard input.")
        format = out.suffix.lstrip(".").lower() if str(out) != "-" else "wav"
        if format not in MEDIA_TYPES:
            raise BadInput(f"'{out.suffix}' is no audio format.", hint=f"Use one of: {', '.join(MEDIA_TYPES)}.")
        said = read(Path("-")).decode("utf-8", "replace") if text == "-" else text
        write(out, encode_audio(tts.speak(said, voice=voice, speed=speed), format))
