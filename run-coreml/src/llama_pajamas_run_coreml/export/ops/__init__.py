"""Every operator that can be converted, by ONNX's name.

A converter takes a :class:`~llama_pajamas_run_coreml.export.values.Step` and returns the node's result, or a list of
its results. It is only asked where the results are not known beforehand (``folding.py``).
"""

from collections.abc import Mapping
from typing import Final

from llama_pajamas_run_coreml.export.ops import (
    activations,
    arrange,
    convolve,
    elements,
    multiply,
    normalize,
    pick,
    pool,
    reduce,
    resize,
)
from llama_pajamas_run_coreml.export.ops.table import Converter

#: Operator -> what converts it.
CONVERTERS: Final[Mapping[str, Converter]] = {
    **elements.TABLE,
    **activations.TABLE,
    **arrange.TABLE,
    **pick.TABLE,
    **multiply.TABLE,
    **convolve.TABLE,
    **pool.TABLE,
    **normalize.TABLE,
    **reduce.TABLE,
    **resize.TABLE,
}
