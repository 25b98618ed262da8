"""Smaller weights; what is computed with them stays what it was."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import coremltools.optimize.coreml as cto

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_run_coreml.export.package import quiet
from llama_pajamas_run_coreml.export.palette import palette

#: Tensors of fewer weights than this stay as they are: their scales would be as large as what is saved.
_LEAST: Final = 1024
#: Operations whose weights take 4 bits well. Tables that are looked up in are kept in 8: there no sum evens errors out.
_PRODUCTS: Final = frozenset({"linear", "conv", "matmul", "conv_transpose"})
#: Weights in front of a softmax that are kept as they are, if there are no more of them: a classifier's are many.
_FEW: Final = 16_384
#: Operations that look up in a table.
_LOOKUPS: Final = frozenset({"gather", "gather_along_axis", "gather_nd"})
#: Operations that only arrange what they are given.
_ARRANGING: Final = frozenset(
    {
        "reshape",
        "transpose",
        "concat",
        "split",
        "slice_by_index",
        "slice_by_size",
        "squeeze",
        "expand_dims",
        "cast",
        "add",
    }
)
#: Weights of a block that share a scale, as near to this as the tensor's size allows.
_BLOCK: Final = 32
#: Channels that share a table, where the target knows more than one for a tensor, the first that divides them.
_GROUPS: Final = (16, 12, 8, 24, 32)
#: A table for fewer weights than this would weigh as much as it saves.
_TABLE: Final = 1024


def compress(model: Any, options: ExportOptions) -> Any:
    """A model with its weights stored as the options say.

    Raises:
        LoadError: coremltools cannot compress it.
    """
    if options.compression == "none":
        return model
    try:
        with quiet():
            config = cto.OptimizationConfig(op_name_configs=dict(_configs(model, options)))
            if options.compression.startswith("palette"):
                return cto.palettize_weights(model, config)
            return cto.linear_quantize_weights(model, config)
    except Exception as error:  # coremltools raises errors of every kind
        raise LoadError(f"The weights could not be compressed: {error}.") from error


def _configs(model: Any, options: ExportOptions) -> Iterator[tuple[str, Any]]:
    """How each weight is stored, by its name."""
    kept = _making_distributions(model)
    for name, weight in cto.get_weights_metadata(model, weight_threshold=_LEAST).items():
        if name in kept and weight.val.size <= _FEW:
            continue
        used = {child.op_type for child in weight.child_ops}
        if not used & (_PRODUCTS | _LOOKUPS):
            continue  # added as it is, like a detector's grid of places: 8 bits would move its boxes by pixels
        multiplied = bool(used & _PRODUCTS)
        if options.compression.startswith("palette"):
            bits = int(options.compression.removeprefix("palette")) if multiplied else 8
            yield name, _palette(weight.val.shape, bits, options)
        else:
            yield name, _linear(weight.val.shape, options.compression == "int4" and multiplied)


def _making_distributions(model: Any) -> set[str]:
    """The names of weights whose products go into a softmax as they are.

    In a detector these are the last ones of its boxes' edges, a fifth of a percent of all weights: the softmax turns a
    small error into one of whole tenths of a pixel.
    """
    program = model._mil_program
    found: set[str] = set()
    for function in program.functions.values() if program is not None else ():
        waiting = [op.x for op in function.operations if op.op_type == "softmax"]
        while waiting:
            made = waiting.pop().op
            if made is None:
                continue
            if made.op_type in ("conv", "linear"):
                found.add(made.weight.name)
            elif made.op_type in _ARRANGING:
                operands = made.values if made.op_type == "concat" else [made.x]
                waiting.extend(operands)
    return found


def _linear(shape: tuple[int, ...], halved: bool) -> Any:
    """8-bit integers with a scale for each channel; or 4-bit ones with a scale for each block of a channel's inputs."""
    block = _divisor(shape[1]) if halved and len(shape) > 1 else None
    if block is None:
        return cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=_LEAST)
    return cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=block, weight_threshold=_LEAST
    )


def _divisor(size: int) -> int | None:
    """What divides a size and is nearest to the wanted block; None where nothing does that is worth a scale."""
    fitting = [one for one in range(_BLOCK // 2, 2 * _BLOCK + 1) if size % one == 0]
    return min(fitting, key=lambda one: abs(one - _BLOCK), default=None)


def _palette(shape: tuple[int, ...], bits: int, options: ExportOptions) -> Any:
    common = {"mode": "custom", "lut_function": partial(palette, bits=bits), "weight_threshold": _LEAST}
    weights = 1
    for size in shape:
        weights *= size
    for group in _GROUPS:
        # A table for each few channels costs little beside 4 or 6 bits a weight, and a lot beside 8.
        if options.is_new and bits < 8 and shape[0] % group == 0 and weights // shape[0] * group >= _TABLE:
            return cto.OpPalettizerConfig(**common, granularity="per_grouped_channel", group_size=group, channel_axis=0)
    return cto.OpPalettizerConfig(**common)
