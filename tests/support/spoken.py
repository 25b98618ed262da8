"""A sentence spoken by eSpeak NG, and when each of its words begins."""

import numpy as np

from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_system._espeak import Espeak

#: Seconds of silence before and after it.
PAUSE = 0.4


def spoken(text: str) -> tuple[Audio, list[float]]:
    """The sound, and each word's start in seconds from its beginning."""
    samples, rate, events = Espeak().synthesize_with_words(text, "en-us")
    pause = np.zeros(round(PAUSE * rate), np.float32)
    sound = np.concatenate([pause, samples.astype(np.float32) / 32768, pause])
    return Audio(sound, rate), [event.start + PAUSE for event in events]
