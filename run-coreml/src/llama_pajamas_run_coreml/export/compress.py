"""Smaller weights; what is computed with them stays what it was."""

from typing import Any, Final

import coremltools.optimize.coreml as cto

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_run_coreml.export.package import quiet

#: Tensors of fewer weights than this stay as they are: their scales would be as large as what is saved.
_LEAST: Final = 1024
#: Weights of a block that share a scale.
_BLOCK: Final = 32
#: Channels that share a table, where the target knows more than one table for a tensor.
_GROUP: Final = 16


def compress(model: Any, options: ExportOptions) -> Any:
    """A model with its weights stored as the options say.

    Raises:
        LoadError: coremltools cannot compress it.
    """
    if options.compression == "none":
        return model
    try:
        with quiet():
            if options.compression.startswith("palette"):
                return cto.palettize_weights(model, cto.OptimizationConfig(global_config=_palette(options)))
            return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=_linear(options)))
    except Exception as error:  # coremltools raises errors of every kind
        raise LoadError(f"The weights could not be compressed: {error}.") from error


def _linear(options: ExportOptions) -> Any:
    if options.compression == "int4":
        return cto.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype="int4",
            granularity="per_block",
            block_size=_BLOCK,
            weight_threshold=_LEAST,
        )
    return cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=_LEAST)


def _palette(options: ExportOptions) -> Any:
    bits = int(options.compression.removeprefix("palette"))
    # A table for each few channels costs little beside 4 or 6 bits a weight, and a lot beside 8.
    if options.is_new and bits < 8:
        return cto.OpPalettizerConfig(
            mode="kmeans",
            nbits=bits,
            granularity="per_grouped_channel",
            group_size=_GROUP,
            weight_threshold=_LEAST,
        )
    return cto.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=_LEAST)
