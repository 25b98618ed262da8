"""What packages are tried on where nothing else is given: made-up pictures, tokens and sound, always the same."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.mel import RATE, log_mel
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_coreml.description import TextDescription


def pictures(count: int) -> list[Image]:
    """Soft colours with sharp shapes before them, 320 x 320 pixels."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        canvas = random.random((5, 5, 3)).repeat(64, 0).repeat(64, 1)
        down, across = np.mgrid[0:320, 0:320]
        for _ in range(6):
            y, x, radius = random.integers(0, 320, 3) * (1, 1, 0.3)
            canvas[np.hypot(down - y, across - x) < radius + 10] = random.random(3)
        made.append(Image((canvas * 255).astype(np.uint8)))
    return made


def read_pictures(path: Path) -> Sequence[Image]:
    """The pictures in a file of the user's.

    Args:
        path: a .npy file of uint8 [n, height, width, 3].

    Raises:
        BadInput: it holds none.
    """
    try:
        read = [Image(np.ascontiguousarray(one)) for one in np.load(path, allow_pickle=False)]
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise BadInput(f"{path} holds no pictures: {error}.", param="pictures") from error
    if not read:
        raise BadInput(f"{path} holds no pictures: it is empty.", param="pictures")
    return read


def rows_of_tokens(about: TextDescription, count: int) -> Iterator[dict[str, npt.NDArray[np.int32]]]:
    """Inputs for a text encoder, drawn at random: the same row of tokens as often as the smallest batch wants it."""
    random = np.random.default_rng(0)
    for _ in range(count):
        length = int(random.integers(2, about.length + 1))
        ids = np.full((about.batches[0], about.length), about.pad_id, np.int32)
        ids[:, :length] = random.integers(0, about.vocabulary, length)
        feeds = {about.input: ids}
        if about.mask is not None:
            feeds[about.mask] = np.broadcast_to(np.arange(about.length) < length, ids.shape).astype(np.int32)
        yield feeds


def spectrogram(sizes: Dimensions) -> npt.NDArray[np.float32]:
    """Five seconds of tones that rise and fall, as a voice's do, in some noise: what a Whisper model of these sizes
    hears, [n_mels, 2 * n_audio_ctx].
    """
    time = np.arange(5 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 1.7 * time)) / RATE
    voice = np.sum([np.sin(order * phase) / order for order in range(1, 12)], axis=0)
    loud = np.clip(np.sin(2 * np.pi * 3 * time), 0, 1)
    noise = np.random.default_rng(0).standard_normal(len(time)) * 0.01
    sound = (0.1 * voice * loud + noise).astype(np.float32)
    return log_mel(sound, sizes.n_mels, 2 * sizes.n_audio_ctx * RATE // 100)
