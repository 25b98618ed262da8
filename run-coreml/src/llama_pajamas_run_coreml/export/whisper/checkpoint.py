"""Whisper checkpoints: a folder with config.json and safetensors, read without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.folder import read_json, weight_files
from llama_pajamas_run_core.errors import BadInput, LoadError, MissingDependency, Unsupported
from llama_pajamas_run_core.whisper.names import openai_name
from llama_pajamas_run_core.whisper.sizes import Dimensions, alignment_heads

try:
    from safetensors import safe_open
except ImportError as error:
    raise MissingDependency(
        "Exporting Whisper to Core ML",
        package="safetensors",
        install="uv pip install 'llama-pajamas-run-coreml[export]'",
    ) from error

Array = npt.NDArray[np.float32]


class WhisperCheckpoint:
    """A folder as ``save_pretrained`` writes it, with Hugging Face's tensor names or openai-whisper's.

    Args:
        folder: with config.json and model.safetensors, whole or in shards.

    Raises:
        BadInput: there is no such folder, or it is no checkpoint.
        LoadError: a file is damaged.
        Unsupported: it is no Whisper model, or one with another activation than GELU.

    Attributes:
        folder: where it lies.
        sizes: how large the model is.
        alignment_heads: (layer, head) pairs of the decoder whose attention follows the speech.
        files: the files with its weights, sorted.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BadInput(f"There is no folder {folder}.", param="model")
        config = read_json(folder / "config.json")
        if config.get("model_type") != "whisper":
            raise Unsupported(
                f"{folder} is a checkpoint of the model_type {config.get('model_type')!r}.",
                hint="Whisper's are exported as they are; any other is exported to ONNX first.",
                param="model",
            )
        if (activation := str(config.get("activation_function", "gelu"))) != "gelu":
            raise Unsupported(f"{folder} has the activation {activation!r}; Whisper's is gelu.", param="model")
        self.folder = folder
        self.sizes = Dimensions.of(config)
        pairs = read_json(folder / "generation_config.json").get("alignment_heads") or config.get("alignment_heads")
        self.alignment_heads = alignment_heads(pairs, self.sizes)
        self._tied = bool(config.get("tie_word_embeddings", True))
        self._places = self._find()
        self.files = tuple(sorted(set(self._places.values())))

    def tensor(self, name: str) -> Array:
        """A tensor by Hugging Face's name behind "model.", in float32.

        Raises:
            LoadError: there is none of that name.
        """
        array = self._optional(name)
        if array is None:
            raise LoadError(
                f"{self.folder} has no tensor model.{name}.", hint="Its config.json may belong to another model."
            )
        return array

    def linear(self, name: str) -> tuple[Array, Array]:
        """Weights [out, in] and bias [out] of a layer; zeros where it has no bias."""
        weight = self.tensor(f"{name}.weight")
        bias = self._optional(f"{name}.bias")
        return weight, np.zeros(len(weight), np.float32) if bias is None else bias.reshape(-1)

    def positions(self, part: str, count: int) -> Array:
        """The positional embedding of a part, float32 [count, width].

        Raises:
            LoadError: it has fewer than config.json tells.
        """
        table = self._optional(f"{part}.embed_positions.weight")
        if table is None and part == "encoder":
            table = sinusoids(count, self.sizes.n_audio_state)
        if table is None or len(table) < count:
            has = 0 if table is None else len(table)
            raise LoadError(f"{self.folder} has {has} positions of the {part}, but config.json tells {count}.")
        return table[:count]

    def output(self) -> Array | None:
        """The weights that make logits, where they are not those of the tokens; float32 [n_vocab, width]."""
        return None if self._tied or "proj_out.weight" not in self._places else self._read("proj_out.weight")

    def _optional(self, name: str) -> Array | None:
        names = (f"model.{name}", name, openai_name(name))
        known = next((one for one in names if one in self._places), None)
        return None if known is None else self._read(known)

    def _read(self, name: str) -> Array:
        with safe_open(self._places[name], framework="numpy") as file:
            array: npt.NDArray[Any] = file.get_tensor(name)
        return array.astype(np.float32)

    def _find(self) -> Mapping[str, Path]:
        """Which file each tensor is in."""
        places: dict[str, Path] = {}
        for path in weight_files(self.folder):
            with safe_open(path, framework="numpy") as file:
                places.update(dict.fromkeys(file.keys(), path))
        return places


def sinusoids(length: int, channels: int) -> Array:
    """Whisper's positional embedding of the encoder, float32 [length, channels]: sines in the first half."""
    increment = np.log(10_000) / (channels // 2 - 1)
    scaled = np.arange(length)[:, None] * np.exp(-increment * np.arange(channels // 2))[None]
    return np.concatenate([np.sin(scaled), np.cos(scaled)], axis=1).astype(np.float32)
