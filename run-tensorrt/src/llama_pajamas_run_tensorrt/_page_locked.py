"""Pixels in page-locked memory of the host, from which the GPU fetches them itself."""

import logging
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_tensorrt import _sdk
from llama_pajamas_run_tensorrt._device import GPU

logger = logging.getLogger(__name__)


class _Memory:
    """Memory that an array is made of; it is freed when the last view of that array is gone.

    NumPy lets a view hold the array that holds this object, but of an array that PyCUDA made only what is below it.
    """

    def __init__(self, gpu: GPU, shape: tuple[int, ...]) -> None:
        with gpu.current():
            taken = _sdk.pinned_alloc(int(np.prod(shape)))
        where = (_sdk.pinned_address(taken), False)
        self.__array_interface__ = {"shape": shape, "typestr": "|u1", "data": where, "version": 3}
        weakref.finalize(self, _free, gpu, taken)


def _free(gpu: GPU, taken: Any) -> None:
    """On whichever thread the last view went."""
    try:
        with gpu.current():
            _sdk.pinned_free(taken)
    except _sdk.cuda.Error as error:  # nobody is there to be told
        logger.warning("device=%d: page-locked memory could not be freed: %s", gpu.index, error)


def page_locked(gpu: GPU, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Zeros in page-locked memory; they outlive the session they were made for.

    Raises:
        OutOfMemory: the host has no more.
    """
    made: npt.NDArray[np.uint8] = np.asarray(_Memory(gpu, shape))
    made[:] = 0
    return made


def is_page_locked(pixels: npt.NDArray[Any]) -> bool:
    """Whether an array, or what it is a view of, came from :func:`page_locked`, and has no gaps."""
    owner = pixels.base
    if isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, _Memory) and pixels.flags.c_contiguous
