"""Recurrent layers, [steps, batch, width] in."""

from collections.abc import Callable
from typing import Final

import numpy as np

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_coreml.evaluate.ops.activations import logistic
from llama_pajamas_run_coreml.evaluate.ops.registry import op
from llama_pajamas_run_coreml.evaluate.types import Array, Scalar

_ACTIVATIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "sigmoid": logistic,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "scaled_tanh": lambda x: np.float32(1.7159) * np.tanh(np.float32(2 / 3) * x),
    "hard_sigmoid": lambda x: np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1),
    "sigmoid_hard": lambda x: np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1),
}


def _activation(name: str) -> Callable[[Array], Array]:
    if name not in _ACTIVATIONS:
        raise Unsupported(f"A recurrent operation has the activation {name}, which is not known here.")
    return _ACTIVATIONS[name]


def _turned(x: Array, direction: str) -> Array:
    if direction not in ("forward", "reverse"):
        raise Unsupported(f"A recurrent operation has the direction {direction}, which is not known here.")
    return x if direction == "forward" else x[::-1]


def _outputs(steps: list[Array], direction: str, sequence: bool) -> Array:
    if not sequence:
        return steps[-1][None]
    return np.stack(steps if direction == "forward" else steps[::-1])


@op("rnn")
def rnn(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: Scalar = False,
    activation: str = "tanh",
) -> tuple[Array, Array]:
    act, hidden, steps = _activation(activation), initial_h, []
    for row in _turned(x, direction):
        hidden = act(row @ weight_ih.T + hidden @ weight_hh.T + (0 if bias is None else bias))
        steps.append(hidden)
    return _outputs(steps, direction, bool(output_sequence)), hidden


@op("gru")
def gru(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: Scalar = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
) -> tuple[Array, Array]:
    gate, act, hidden, steps = _activation(recurrent_activation), _activation(activation), initial_h, []
    width = weight_hh.shape[1]
    for row in _turned(x, direction):
        given = row @ weight_ih.T + (0 if bias is None else bias)
        before = hidden @ weight_hh.T
        reset = gate(given[:, :width] + before[:, :width])
        new = act(given[:, width : 2 * width] + reset * before[:, width : 2 * width])
        keep = gate(given[:, 2 * width :] + before[:, 2 * width :])
        hidden = (1 - keep) * new + keep * hidden
        steps.append(hidden)
    return _outputs(steps, direction, bool(output_sequence)), hidden


@op("lstm")
def lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: Scalar = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: Array | None = None,
) -> tuple[Array, Array, Array]:
    acts = (_activation(recurrent_activation), _activation(cell_activation), _activation(activation))
    sequence = bool(output_sequence)
    if direction != "bidirectional":
        return _lstm(x, initial_h, initial_c, (weight_ih, weight_hh, bias, peephole), direction, sequence, acts, clip)
    if weight_ih_back is None or weight_hh_back is None:
        raise ValueError("the weights of the way back are missing")
    width = weight_hh.shape[1]
    there = _lstm(
        x, initial_h[:, :width], initial_c[:, :width], (weight_ih, weight_hh, bias, peephole), "forward", sequence,
        acts, clip,
    )  # fmt: skip
    back = _lstm(
        x, initial_h[:, width:], initial_c[:, width:], (weight_ih_back, weight_hh_back, bias_back, peephole_back),
        "reverse", sequence, acts, clip,
    )  # fmt: skip
    outputs, hidden, cell = (np.concatenate(pair, axis=-1) for pair in zip(there, back, strict=True))
    return outputs, hidden, cell


def _lstm(
    x: Array,
    hidden: Array,
    cell: Array,
    weights: tuple[Array, Array, Array | None, Array | None],
    direction: str,
    sequence: bool,
    acts: tuple[Callable[[Array], Array], ...],
    clip: Array | None,
) -> tuple[Array, Array, Array]:
    """One direction; the gates lie in the order input, forget, output, cell."""
    inner, outer, bias, peephole = weights
    gate, cell_act, act = acts
    peeps = (0, 0, 0) if peephole is None else np.split(peephole, 3)
    steps = []
    for row in _turned(x, direction):
        given = row @ inner.T + hidden @ outer.T + (0 if bias is None else bias)
        enter, forget, leave, new = np.split(given, 4, axis=-1)
        if clip is not None:
            new = np.clip(new, -clip, clip)
        cell = gate(forget + peeps[1] * cell) * cell + gate(enter + peeps[0] * cell) * cell_act(new)
        hidden = gate(leave + peeps[2] * cell) * act(cell)
        steps.append(hidden)
    return _outputs(steps, direction, sequence), hidden, cell
