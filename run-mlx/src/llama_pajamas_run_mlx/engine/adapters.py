"""LoRA adapters that requests choose for themselves: small matrices added to a model's, others for each sequence.

Sequences with different adapters, and with none, share steps: every row of a batch takes its own pair of matrices.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.language.adapters import NamedAdapters

#: The names of files: mlx-lm's, and those of Hugging Face's PEFT.
_WEIGHTS: Final = ("adapters.safetensors", "adapter_model.safetensors")
#: What PEFT writes before the names of a model's layers.
_PREFIX: Final = "base_model.model."

_numbers = itertools.count(1)


class Pair(NamedTuple):
    """What an adapter adds to one layer: ``x @ down @ up``.

    Attributes:
        down: [inputs, rank].
        up: [rank, outputs], the adapter's scale included.
    """

    down: mx.array
    up: mx.array


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A loaded adapter.

    Attributes:
        name: by which requests ask for it.
        slot: its place in the layers; 0 is no adapter.
        key: no other adapter ever has it, even one that takes its name later.
    """

    name: str
    slot: int
    key: str


class Rows:
    """Which adapter each sequence of a batch uses. It travels with the caches of keys and values, as one more of them.

    Args:
        slots: of the sequences.
    """

    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = list(slots)

    def merge(self, caches: Sequence["Rows"]) -> "Rows":
        """Several sequences as one batch."""
        return Rows([slot for cache in caches for slot in cache.slots])

    def extend(self, other: "Rows") -> None:
        """More sequences join."""
        self.slots += other.slots

    def filter(self, keep: Sequence[int]) -> None:
        """Only these sequences go on."""
        self.slots = [self.slots[index] for index in keep]

    def extract(self, index: int) -> "Rows":
        """One sequence, for itself."""
        return Rows([self.slots[index]])

    def prepare(self, **_: Any) -> None:
        """There is nothing to prepare."""

    def finalize(self) -> None:
        """There is nothing to finish."""

    def is_trimmable(self) -> bool:
        """Whether tokens can be taken off the end."""
        return True

    def trim(self, count: int) -> int:
        """Take tokens off the end, which changes nothing here."""
        return count

    def size(self) -> int:
        """How many tokens it holds."""
        return 0

    @property
    def state(self) -> list[Any]:
        """What has to be computed: nothing."""
        return []

    @property
    def nbytes(self) -> int:
        """Bytes of arrays."""
        return 0


class AdaptedLinear(nn.Module):
    """A linear layer with what adapters add to it.

    Args:
        linear: the model's own layer, quantized or not.
        choice: of the model.
    """

    def __init__(self, linear: nn.Module, choice: "Choice") -> None:
        super().__init__()
        self.linear = linear
        self.pairs: dict[str, Pair] = {}
        self._choice = [choice]  # in a list, as MLX would take an attribute for a parameter or a layer otherwise
        self._down: mx.array | None = None
        self._up: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        """As the layer, [b, n, outputs]."""
        y: mx.array = self.linear(x)
        slots = self._choice[0].slots
        if slots is None or self._down is None or self._up is None:
            return y
        more = (x @ self._down[slots].astype(x.dtype)) @ self._up[slots].astype(x.dtype)
        return y + more.astype(y.dtype)

    def stack(self, adapters: Sequence[Adapter]) -> None:
        """Put the adapters' matrices side by side, narrower ones with zeros behind; slot 0 adds nothing."""
        mine = {adapter.slot: self.pairs[adapter.key] for adapter in adapters if adapter.key in self.pairs}
        if not mine:
            self._down = self._up = None
            return
        example = next(iter(mine.values()))
        rank = max(pair.down.shape[1] for pair in mine.values())
        empty = Pair(
            mx.zeros((example.down.shape[0], rank), example.down.dtype),
            mx.zeros((rank, example.up.shape[1]), example.up.dtype),
        )
        pairs = [
            _widened(mine[slot], rank) if slot in mine else empty
            for slot in range(1 + max(adapter.slot for adapter in adapters))
        ]
        self._down, self._up = mx.stack([pair.down for pair in pairs]), mx.stack([pair.up for pair in pairs])
        mx.eval(self._down, self._up)


class Choice:
    """Which adapters the step that is being computed uses: an array of slots, int [b], or None where none is used."""

    slots: mx.array | None = None


class Adapters(NamedAdapters[Adapter]):
    """The adapters of a model.

    Args:
        model: of mlx-lm; layers that an adapter changes are wrapped.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._choice = Choice()
        self._layers: dict[str, AdaptedLinear] = {}

    def load(self, name: str, folder: Path) -> None:
        """Load an adapter made by mlx-lm or by Hugging Face's PEFT.

        Args:
            name: what to call it.
            folder: holds adapter_config.json and the weights.

        Raises:
            BadInput: the name is taken.
            LoadError: the folder holds no LoRA adapter, or none for this model.
        """
        self._check_free(name)
        pairs = read_adapter(folder)
        layers = {path: self._layer(path, folder) for path in pairs}
        for path, pair in pairs.items():
            _check_fit(path, pair, layers[path], folder)
        taken = {adapter.slot for adapter in self._known.values()}
        slot = next(number for number in itertools.count(1) if number not in taken)
        adapter = Adapter(name, slot, f"{name} {next(_numbers)}")
        for path, pair in pairs.items():
            self._wrapped(path, layers[path]).pairs[adapter.key] = pair
        self._known[name] = adapter
        self._stack()

    def unload(self, name: str) -> None:
        """Free an adapter, which no request may be using.

        Raises:
            BadInput: there is none of that name.
        """
        adapter = self._get(name)
        del self._known[name]
        for layer in self._layers.values():
            layer.pairs.pop(adapter.key, None)
        self._stack()

    def choose(self, rows: Rows | None) -> None:
        """Have the next computation use these sequences' adapters; None for none."""
        used = rows is not None and any(rows.slots)
        self._choice.slots = mx.array(rows.slots) if used and rows is not None else None

    def _stack(self) -> None:
        for layer in self._layers.values():
            layer.stack(list(self._known.values()))

    def _layer(self, path: str, folder: Path) -> nn.Module:
        if path in self._layers:
            return self._layers[path].linear
        layer: Any = self._model
        for part in path.split("."):
            try:
                layer = layer[int(part)] if part.isdigit() else layer[part]
            except (KeyError, IndexError, TypeError) as error:
                raise LoadError(f"{folder} is no adapter for this model, which has no layer {path}.") from error
        if not isinstance(layer, nn.Linear | nn.QuantizedLinear):
            raise LoadError(
                f"{folder} adapts {path}, a {type(layer).__name__}: requests can choose linear layers' adapters alone.",
                hint="Load it for all requests: adapter=FOLDER.",
            )
        return layer

    def _wrapped(self, path: str, layer: nn.Module) -> AdaptedLinear:
        if path not in self._layers:
            self._layers[path] = AdaptedLinear(layer, self._choice)
            *parents, last = path.split(".")
            owner: Any = self._model
            for part in parents:
                owner = owner[int(part)] if part.isdigit() else owner[part]
            owner[int(last) if last.isdigit() else last] = self._layers[path]
        return self._layers[path]


def read_adapter(folder: Path) -> dict[str, Pair]:
    """An adapter's matrices by the names of the layers that they belong to.

    Raises:
        LoadError: the folder holds no LoRA adapter, or of a kind that cannot be added to a running model.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{folder} holds no LoRA adapter: its adapter_config.json cannot be read ({error}).") from error
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if not isinstance(config, dict) or weights is None:
        raise LoadError(f"{folder} holds no LoRA adapter: it has neither {' nor '.join(_WEIGHTS)}.")
    scale = _scale(folder, config)
    try:
        tensors: Any = mx.load(str(weights))
    except Exception as error:  # MLX raises RuntimeError and others
        raise LoadError(f"{weights} could not be read: {error}") from error
    pairs = _pairs(folder, tensors, scale)
    if not pairs:
        raise LoadError(f"{weights} holds no matrices of LoRA.")
    return pairs


def _scale(folder: Path, config: dict[str, Any]) -> float:
    """How strongly the adapter is applied."""
    kind = str(config.get("peft_type") or config.get("fine_tune_type") or "lora").lower()
    if kind != "lora" or config.get("use_dora"):
        kind = "dora" if config.get("use_dora") else kind
        raise LoadError(
            f"{folder} is an adapter of the kind {kind}; requests can choose those of the kind lora alone.",
            hint="Load it for all requests: adapter=FOLDER.",
        )
    for name in ("rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(name):
            raise LoadError(f"{folder} is an adapter with {name}, which is not supported.")
    try:
        if "peft_type" not in config:
            return float(config["lora_parameters"]["scale"])
        rank = float(config["r"])
        return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise LoadError(f"{folder / 'adapter_config.json'} does not tell the adapter's scale: {error!r}.") from error


def _pairs(folder: Path, tensors: dict[str, mx.array], scale: float) -> dict[str, Pair]:
    down: dict[str, mx.array] = {}
    up: dict[str, mx.array] = {}
    for name, array in tensors.items():
        layer = name.removeprefix(_PREFIX).removesuffix(".weight").removesuffix(".default")
        path, _, kind = layer.rpartition(".")
        if kind == "lora_a":
            down[path] = array
        elif kind == "lora_b":
            up[path] = array
        elif kind == "lora_A":
            down[path] = array.T
        elif kind == "lora_B":
            up[path] = array.T
        else:
            raise LoadError(f"{folder} holds {name}, which is no matrix of LoRA.")
    if down.keys() != up.keys():
        alone = sorted(down.keys() ^ up.keys())[0]
        raise LoadError(f"{folder} holds half of what it adds to {alone}.")
    return {path: Pair(array, scale * up[path]) for path, array in down.items()}


def _check_fit(path: str, pair: Pair, layer: nn.Module, folder: Path) -> None:
    outputs, inputs = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        inputs = layer.scales.shape[-1] * layer.group_size
    wanted = (inputs, pair.down.shape[-1]), (pair.down.shape[-1], outputs)
    if (tuple(pair.down.shape), tuple(pair.up.shape)) != wanted:
        raise LoadError(
            f"{folder} is no adapter for this model: {path} takes {inputs} numbers and gives {outputs}, "
            f"the adapter's matrices are {tuple(pair.down.shape)} and {tuple(pair.up.shape)}."
        )


def _widened(pair: Pair, rank: int) -> Pair:
    more = rank - pair.down.shape[1]
    return Pair(mx.pad(pair.down, [(0, 0), (0, more)]), mx.pad(pair.up, [(0, more), (0, 0)])) if more else pair
