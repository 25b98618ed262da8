"""Packages that others made, above all Ultralytics: what tells how to use them."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.artifacts.vision.graph import Tensor, VisionGraph
from llama_pajamas_run_core.artifacts.vision.spec import Options, read_spec
from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_coreml._session import Session
from llama_pajamas_run_coreml.description import Origin, VisionDescription
from llama_pajamas_run_coreml.interface import Feature

_TYPES: Final[dict[str, type[np.generic]]] = {
    "fp16": np.float32, "fp32": np.float32, "fp64": np.float32, "image": np.float32, "int32": np.int32,
}  # fmt: skip


def read_foreign(session: Session, options: Mapping[str, Any]) -> VisionDescription:
    """Tell what a package expects and gives that does not describe itself in this project's way.

    Args:
        session: the loaded package.
        options: what the caller says, as in :class:`~llama_pajamas_run_core.artifacts.vision.spec.Options`.

    Raises:
        BadInput: nothing tells how to use it; the message names the options to give.
        LoadError: its description contradicts it.
        Unsupported: a kind of model that is not understood.
    """
    inputs = tuple(_tensor(one) for one in session.interface.inputs)
    outputs = tuple(_tensor(one) for one in session.interface.outputs)
    graph = VisionGraph(session.path, inputs, outputs, session.metadata)
    reading = read_spec(graph, Options.of(options, also=("compute_units", "quick_start")))
    if reading.channels_last or not reading.batched:
        raise Unsupported(
            f"{session.path} takes {list(reading.pixels.shape)}, not [n, 3, height, width].", param="model"
        )
    feature = next(one for one in session.interface.inputs if one.name == reading.pixels.name)
    if feature.colors == "GRAY":
        raise Unsupported(f"{session.path} takes gray pictures.", param="model")
    names = tuple(outputs[index].name for index in reading.outputs)
    origin = Origin(session.path.name, "", "", "ios17", "float16", "unknown")
    return VisionDescription(
        origin, reading.spec, reading.pixels.name, names, feature.dtype == "image", _batches(feature)
    )


def _batches(feature: Feature) -> tuple[int, ...]:
    """The numbers of pictures that one prediction takes."""
    if feature.shapes:
        return tuple(sorted({shape[0] for shape in feature.shapes}))
    if not feature.ranges or feature.dtype == "image":
        return (feature.shape[0],)
    low, high = feature.ranges[0]
    if high is not None and high < max(low, 1):
        raise BadInput(f"The input {feature.name} takes no picture.", param="model")
    return tuple(range(max(low, 1), min(high or 16, 16) + 1))


def _tensor(feature: Feature) -> Tensor:
    shape: tuple[int | None, ...] = feature.shape
    if feature.ranges:
        shape = tuple(low if low == high else None for low, high in feature.ranges)
    elif feature.shapes:
        shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*feature.shapes, strict=True))
    return Tensor(feature.name, shape, _TYPES.get(feature.dtype))
