"""What a decoder with a cache of given room is told about the tokens of a step, beside the tokens themselves."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

#: Added to the scores of what a token does not attend to; within the range of half precision.
HIDDEN: Final = -10_000.0


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tokens of a step stand.

    Attributes:
        positions: int32 [n], their places in the transcript.
        write: float32 [n, room], a 1 where a token's key and value go in the cache.
        mask: float32 [n, room], 0 where a token attends, :data:`HIDDEN` where it does not.
    """

    positions: npt.NDArray[np.int32]
    write: npt.NDArray[np.float32]
    mask: npt.NDArray[np.float32]

    @classmethod
    def of(cls, past: int, count: int, room: int) -> "Places":
        """The places of ``count`` tokens behind ``past`` others.

        Raises:
            ValueError: the cache has no room for them.
        """
        if past + count > room:
            raise ValueError(f"{count} tokens behind {past} do not fit into {room} places")
        positions = np.arange(past, past + count, dtype=np.int32)
        places = np.arange(room)[None]
        write = (places == positions[:, None]).astype(np.float32)
        mask = np.where(places <= positions[:, None], 0.0, HIDDEN).astype(np.float32)
        return cls(positions, write, mask)
