"""Pictures to calibrate and to measure with, from a folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.vision.spec import Reading
from llama_pajamas_run_core.dsp.fit import fit
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_tensorrt.export.graph import need

_PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
#: More change nothing: scales settle within a few hundred.
_MOST: Final = 512


def read_images(folder: Path, most: int = _MOST) -> list[Image]:
    """The pictures of a folder and those below it, in the order of their names; .npy files hold uint8 arrays.

    Args:
        folder: where they lie.
        most: at most so many, spread over all there are.

    Raises:
        BadInput: there is no such folder, or no picture in it.
        LoadError: one cannot be read.
    """
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}.", param="calibrate")
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (*_PICTURES, ".npy"))
    if not found:
        raise BadInput(f"{folder} holds no pictures ({', '.join(_PICTURES)} or .npy).", param="calibrate")
    step = max(len(found) / most, 1.0)
    return [_read(found[int(index * step)]) for index in range(min(most, len(found)))]


def batches(images: Sequence[Image], reading: Reading, size: int) -> Iterator[npt.NDArray[np.float32]]:
    """The pictures as the graph takes them, so many at a time; the last batch may be smaller.

    Args:
        images: the pictures.
        reading: how the graph is used.
        size: how many at a time; a graph with a fixed batch takes just its own.
    """
    size = reading.batch or size
    for start in range(0, len(images), size):
        yield reading.fed(np.stack([fit(image, reading.spec)[0] for image in images[start : start + size]]))


def _read(file: Path) -> Image:
    try:
        if file.suffix == ".npy":
            return Image(np.load(file, allow_pickle=False))
        with need("PIL.Image").open(file) as picture:
            upright = need("PIL.ImageOps").exif_transpose(picture)
            return Image(np.asarray(upright.convert("RGB")))
    except (OSError, ValueError, TypeError) as error:
        raise LoadError(f"{file} is no picture that can be read: {error}.") from error
