"""How a head in YOLOv8's layout lies in an engine's output, for the kernels that read it on the GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama_pajamas_run_core.artifacts.vision.spec import Reading
from llama_pajamas_run_tensorrt.kernels import MOST_PLACES
from llama_pajamas_run_tensorrt.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Table:
    """How a head in YOLOv8's layout lies in an output.

    Attributes:
        name: the output.
        layout: channels, classes, places, and the steps from one channel and from one place to the next.
        weights: how many mask coefficients each box has.
    """

    name: str
    layout: tuple[int, int, int, int, int]
    weights: int


def table_of(reading: Reading, outputs: Sequence[Tensor]) -> Table | None:
    """The layout of a head in YOLOv8's way, or None where the host reads the head.

    Args:
        reading: how the model is used.
        outputs: all of the engine's.
    """
    spec = reading.spec
    if spec.head not in ("yolov8", "yolov8-seg"):
        return None
    one = outputs[reading.outputs[0]]
    if len(one.shape) != 3 or one.size(1) is None or one.size(2) is None or one.dtype not in (np.float32, np.float16):
        return None
    weights = 0
    if spec.head == "yolov8-seg":
        prototypes = outputs[reading.outputs[1]]
        weights = prototypes.size(1) or 0
        if not weights or None in prototypes.shape[1:]:
            return None
    first, second = one.shape[1], one.shape[2]
    assert first is not None
    assert second is not None
    labels = len(spec.labels)
    # The same choice as in dsp/heads.py; more channels than boxes, classes and coefficients are joints or the like.
    wanted = 4 + labels + weights if labels else min(first, second)
    upright = first == wanted or (second != wanted and first < second)
    channels, places = (first, second) if upright else (second, first)
    kinds = labels or channels - 4 - weights
    if kinds < 1 or channels < 4 + kinds + weights or places >= MOST_PLACES:
        return None
    if weights and channels != 4 + kinds + weights:
        return None
    steps = (places, 1) if upright else (1, channels)
    return Table(one.name, (channels, kinds, places, *steps), weights)
