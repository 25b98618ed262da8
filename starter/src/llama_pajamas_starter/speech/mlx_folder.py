"""The checkpoint as an MLX Whisper folder.

Format: ``convert.py`` of mlx-examples/whisper (https://github.com/ml-explore/mlx-examples): ``config.json`` with the
sizes, ``weights.safetensors`` with openai-whisper's tensors, of which convolutions have their channels last, the two
linear layers of a block are called ``mlp1`` and ``mlp2``, and the encoder's positions, which are computed, are missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_starter.speech.checkpoint import Checkpoint


def write(folder: str | Path, checkpoint: Checkpoint) -> Path:
    """Writes the folder, its weights in float16.

    Returns:
        The folder.
    """
    return write_tensors(folder, asdict(checkpoint.dimensions), checkpoint.tensors, checkpoint.alignment_heads)


def write_tensors(
    folder: str | Path,
    dimensions: Mapping[str, int],
    tensors: Mapping[str, npt.NDArray[Any]],
    alignment_heads: Sequence[tuple[int, int]] = (),
) -> Path:
    """Writes the folder for any model.

    Args:
        folder: made where it does not exist.
        dimensions: the sizes, under openai-whisper's names.
        tensors: under openai-whisper's names.
        alignment_heads: (decoder layer, head) pairs that tell when a word is spoken; none: it is not told.

    Returns:
        The folder.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if name == "encoder.positional_embedding":
            continue
        array = np.squeeze(tensor, -1) if name.endswith("bias") and tensor.ndim == 2 else tensor
        array = array.swapaxes(1, 2) if array.ndim == 3 else array
        written[name.replace(".mlp.0.", ".mlp1.").replace(".mlp.2.", ".mlp2.")] = np.ascontiguousarray(
            array, np.float16
        )
    if alignment_heads:
        written["alignment_heads"] = np.array(alignment_heads, np.int32)
    save_file(written, folder / "weights.safetensors", metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", **dimensions}, indent=2) + "\n")
    return folder
