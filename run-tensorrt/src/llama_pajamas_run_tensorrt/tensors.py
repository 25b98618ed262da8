"""The inputs and outputs of an engine, and which shapes it takes. Imports no SDK."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llama_pajamas_run_core.errors import BadInput

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: its name.
        shape: its sizes; None where a size is free.
        dtype: the element type.
        limits: of an input, for each optimization profile the smallest, best and largest shape.
        on_host: whether the engine reads or writes it in the host's memory (sizes of shapes).
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: type[np.generic]
    limits: tuple[tuple[Shape, Shape, Shape], ...] = ()
    on_host: bool = False

    def size(self, axis: int) -> int | None:
        """The size along an axis, or None where it is free or there is no such axis."""
        return self.shape[axis] if -len(self.shape) <= axis < len(self.shape) else None

    @property
    def largest(self) -> Shape:
        """The largest shape that any profile takes; the shape itself where it is fixed."""
        if not self.limits:
            return tuple(size or 1 for size in self.shape)
        return tuple(max(sizes) for sizes in zip(*(limit[2] for limit in self.limits), strict=True))


def profile_for(inputs: Sequence[Tensor], shapes: Mapping[str, Shape], engine: str, *, complete: bool = False) -> int:
    """The first optimization profile that takes these shapes.

    Args:
        inputs: the engine's inputs.
        shapes: of some of them, or with ``complete`` of all.
        engine: its name, for messages.
        complete: whether every input has to be there.

    Raises:
        BadInput: none does, or an input is missing; the message names the limit that was passed.
    """
    if complete and (missing := [one.name for one in inputs if one.name not in shapes]):
        raise BadInput(f"{engine} needs the input {', '.join(missing)} as well.")
    for name, shape in shapes.items():
        tensor = named(inputs, name, "input")
        fixed = len(shape) == len(tensor.shape) and all(
            known in (None, size) for known, size in zip(tensor.shape, shape, strict=True)
        )
        if not fixed:
            if len(shape) == len(tensor.shape) and shape and tensor.shape[0] not in (None, shape[0]):
                raise BadInput(
                    f"A batch of {shape[0]} is not what {engine} was built for: {tensor.shape[0]}.", param=name
                )
            expected = ", ".join("?" if size is None else str(size) for size in tensor.shape)
            raise BadInput(f"'{name}' takes [{expected}], not {list(shape)}.", param=name)
    profiles = max((len(one.limits) for one in inputs), default=1) or 1
    for profile in range(profiles):
        if all(_fits(named(inputs, name, "input"), profile, shape) for name, shape in shapes.items()):
            return profile
    raise _past(inputs, engine, shapes)


def named(tensors: Sequence[Tensor], name: str, kind: str) -> Tensor:
    """The tensor of that name. Raises BadInput where there is none."""
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    names = ", ".join(tensor.name for tensor in tensors)
    raise BadInput(f"The engine has no {kind} '{name}'; it has {names}.")


def _fits(tensor: Tensor, profile: int, shape: Shape) -> bool:
    if profile >= len(tensor.limits):
        return True
    low, _, high = tensor.limits[profile]
    return all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True))


def _past(inputs: Sequence[Tensor], engine: str, shapes: Mapping[str, Shape]) -> BadInput:
    """The error for shapes that no profile takes: the limit by its number, as of a batch."""
    for name, shape in shapes.items():
        tensor = named(inputs, name, "input")
        for axis, size in enumerate(shape):
            ranges = [(low[axis], high[axis]) for low, _, high in tensor.limits]
            if ranges and not any(least <= size <= most for least, most in ranges):
                what = f"A batch of {size}" if axis == 0 else f"Size {size} along axis {axis} of '{name}'"
                takes = " or ".join(f"{least} to {most}" if least != most else f"{most}" for least, most in ranges)
                return BadInput(
                    f"{what} is past what {engine} was built for: {takes}.",
                    hint="Send less at once, or build it with a larger --batch." if axis == 0 else None,
                    param=name,
                )
    given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    return BadInput(f"No profile of {engine} takes these shapes together: {given}.")
