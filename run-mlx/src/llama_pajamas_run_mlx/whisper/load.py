"""MLX Whisper folders: config.json with OpenAI's names for the sizes, and weights.safetensors or weights.npz."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from llama_pajamas_run_core.errors import LoadError, OutOfMemory
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_mlx._session import DTYPES, is_out_of_memory
from llama_pajamas_run_mlx.whisper.model import WhisperModel

_WEIGHTS = ("weights.safetensors", "weights.npz", "model.safetensors")


def load_whisper(path: Path, dtype: str) -> tuple[WhisperModel, Dimensions, dict[str, Any]]:
    """Load a folder.

    Args:
        path: the folder.
        dtype: what to compute in, a key of ``DTYPES``.

    Returns:
        the model, its sizes, and what its config says of quantization (empty where it is not quantized).

    Raises:
        LoadError: the folder is missing, damaged, or no MLX Whisper model.
        OutOfMemory: there is not enough memory.
    """
    config = _config(path)
    quantization = config.get("quantization") or {}
    weights_file = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
    if weights_file is None:
        raise LoadError(f"{path} is no MLX Whisper model: it has no {' or '.join(_WEIGHTS[:2])}.")
    try:
        sizes = Dimensions.of(config)
        weights: Any = mx.load(str(weights_file))
        model = WhisperModel(sizes)
        if quantization:
            nn.quantize(
                model,
                **{key: quantization[key] for key in ("group_size", "bits") if key in quantization},
                class_predicate=lambda name, module: (
                    isinstance(module, nn.Linear | nn.Embedding) and f"{name}.scales" in weights
                ),
            )
        model.alignment_heads = weights.setdefault("alignment_heads", model.alignment_heads)
        flat: Any = tree_flatten(model.parameters())
        expected = {name for name, _ in flat}
        if missing := sorted(expected - set(weights)):
            raise LoadError(f"{weights_file} lacks {len(missing)} tensors, the first of them {missing[0]}.")
        model.load_weights([(name, weights[name]) for name in sorted(expected)])  # and sees that their shapes fit
        model.set_dtype(DTYPES[dtype])
        mx.eval(model.parameters())
    except LoadError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"There is not enough memory for {path.name}: {error}") from error
        raise LoadError(f"{path} could not be loaded: {str(error) or repr(error)}") from error
    return model, sizes, quantization


def _config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise LoadError(f"There is no folder {path}.", hint="An MLX Whisper model is a folder.")
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} is no MLX Whisper model: its config.json cannot be read ({error}).") from error
    if not isinstance(config, dict) or "n_audio_state" not in config:
        raise LoadError(f"{path} is no MLX Whisper model: its config.json has no n_audio_state.")
    return config
