"""Speech to measure with, from a folder of WAV files."""

import wave
from pathlib import Path

import numpy as np

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.types.audio import Audio


def read_recordings(folder: Path) -> list[Audio]:
    """The recordings of a folder and those below it, in the order of their names.

    Args:
        folder: with .wav files of 16 bits, of any rate and number of channels.

    Raises:
        BadInput: there is no such folder, or no recording in it.
        LoadError: one cannot be read.
    """
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}.", param="speech")
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".wav")
    if not found:
        raise BadInput(f"{folder} holds no recordings (.wav).", param="speech")
    return [_read(file) for file in found]


def _read(file: Path) -> Audio:
    try:
        with wave.open(str(file), "rb") as sound:
            if sound.getsampwidth() != 2:
                raise LoadError(
                    f"{file} has samples of {8 * sound.getsampwidth()} bits.", hint="Convert it to WAV of 16 bits."
                )
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, sound.getnchannels())
            rate = sound.getframerate()
    except (OSError, EOFError, ValueError, wave.Error) as error:
        raise LoadError(f"{file} cannot be read: {error}.", hint="Convert it to WAV of 16 bits.") from error
    return Audio((samples.astype(np.float32) / 32768.0).mean(axis=1, dtype=np.float32), rate)
