"""A spoken question, answered aloud: audio, transcript, reply, audio, each stage overlapping the next.

    uv run python examples/crossmodal_pipeline_demo.py [question.wav] [--question TEXT] [--out answer.wav]

Without a file, the system voice asks the question first.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.cli.files import read, write
from llama_pajamas_run_core.codecs.audio import decode_audio, encode_audio
from llama_pajamas_run_core.errors import BadInput, PajamasError
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.pipelines.voice import Done, Heard, Spoken, Timings, Written, turn
from llama_pajamas_run_core.types.audio import Audio, SpeakOptions
from llama_pajamas_run_core.types.chat import GenerationOptions
from llama_pajamas_run_core.types.tasks import Task

#: A voice of eSpeak NG that no starter model was trained on.
ASKING_VOICE = "en-gb-x-gbclan"


def main() -> None:
    """Answer one question."""
    parser = argparse.ArgumentParser(description="Answer a spoken question aloud.")
    parser.add_argument("audio", nargs="?", type=Path, help="an audio file with the question")
    parser.add_argument("--question", default="What is twenty-three plus nineteen?", help="asked aloud without a file")
    parser.add_argument("--voice", help="the voice of the answer")
    parser.add_argument("--out", type=Path, default=Path("answer.wav"), help="where the spoken answer goes")
    arguments = parser.parse_args()
    machine = Machine()
    with machine.open(Task.STT) as stt, machine.open(Task.LLM) as llm, machine.open(Task.TTS) as tts:
        print(f"hears with {stt.runtime}, thinks with {llm.runtime}, speaks with {tts.runtime}")
        if arguments.audio is not None:
            question = decode_audio(read(arguments.audio))
        else:
            question = tts.speak(arguments.question, voice=asking_voice(tts))
        # Load what is loaded lazily before the clock starts: a person talks to a warm assistant.
        for _ in turn(stt, llm, tts, question, think=GenerationOptions(temperature=0.0)):
            pass
        pieces: list[Audio] = []
        for event in turn(
            stt,
            llm,
            tts,
            question,
            think=GenerationOptions(temperature=0.0),
            speak=SpeakOptions(voice=arguments.voice),
        ):
            if isinstance(event, Heard):
                print(f"heard:   {event.transcript.text}\nreplies: ", end="", flush=True)
            elif isinstance(event, Written):
                print(event.text, end="", flush=True)
            elif isinstance(event, Spoken):
                pieces.append(event.audio)
            elif isinstance(event, Done):
                print()
                report(question, pieces, event.timings)
        if not pieces:
            sys.exit("Nothing was heard, so nothing was answered.")
        answer = Audio(np.concatenate([piece.samples for piece in pieces]), tts.rate)
        write(arguments.out, encode_audio(answer, "wav"))
        print(f"wrote {arguments.out} ({answer.duration:.1f} s); it says: {stt.transcribe(answer).text}")


def asking_voice(tts: TTSBackend) -> str | None:
    """The voice that asks; the default one where the machine speaks by other means."""
    try:
        return tts.find_voice(ASKING_VOICE).id
    except BadInput:
        return None


def report(question: Audio, pieces: list[Audio], timings: Timings) -> None:
    """Print when each stage came through."""
    spoken = sum(piece.duration for piece in pieces)
    print(f"\n{'stage':<28} {'ms after the question ended':>28}")
    for stage, seconds in (
        ("transcript complete", timings.heard),
        ("first token of the reply", timings.first_token),
        ("first sentence complete", timings.first_sentence),
        ("first audio", timings.first_audio),
        ("reply complete", timings.written),
        ("speech complete", timings.spoken),
    ):
        print(f"{stage:<28} {seconds * 1000:>28.0f}")
    print(f"question {question.duration:.1f} s, answer {spoken:.1f} s of audio\n")


if __name__ == "__main__":
    try:
        main()
    except PajamasError as error:
        sys.exit(f"error: {error}")
