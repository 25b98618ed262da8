"""How much a file may unfold to: a few kilobytes can decode to gigabytes."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that decoding one file may yield.

    Attributes:
        audio_seconds: seconds of sound.
        audio_samples: samples of one channel of sound, 4 bytes each; two hours at 48 kHz.
        image_pixels: width times height of a picture.
        image_side: pixels of a picture's longer side.
    """

    audio_seconds: float = 7200.0
    audio_samples: int = 7200 * 48_000
    image_pixels: int = 64_000_000
    image_side: int = 16_384


DEFAULT_LIMITS: Final = Limits()
