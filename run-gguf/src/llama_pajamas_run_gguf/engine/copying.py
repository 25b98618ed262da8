"""What it costs to copy keys and values instead of computing them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Copying:
    """How copying compares with computing on a kind of device.

    Attributes:
        idle: of what a step reads of the weights, how much it may read of idle conversations besides, before they are
            copied out of the way.
        shortest: tokens of the shortest sequence that is copied sooner than computed again.
        per_computed: tokens that are copied in the time in which one token of a prompt is computed.
        as_weights: moving a byte takes as long as a step's reading so many bytes of the weights.
    """

    idle: float
    shortest: int
    per_computed: int
    as_weights: int


#: A processor's attention over idle cells costs it dearly, but copies within its memory are cheap.
ON_PROCESSOR: Final = Copying(idle=0.0, shortest=32, per_computed=16, as_weights=4)
#: On a GPU it is the other way round: copies go through the host's memory. An H200 moves 1,000 tokens of 8 B parameters
#: in 60 ms and reads them (Q4_K_M) in 120; one more pass over the weights takes 3.5 ms.
ON_GPU: Final = Copying(idle=0.25, shortest=512, per_computed=2, as_weights=640)
