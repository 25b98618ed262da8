"""The checkpoint as whisper.cpp's ggml file.

Format: ``convert-pt-to-ggml.py`` of whisper.cpp (https://github.com/ggml-org/whisper.cpp): magic, eleven sizes, mel
filters, vocabulary, then each tensor with its name; matrices in float16, vectors and positions in float32.
"""

import struct
from pathlib import Path
from typing import Final

import numpy as np

from llama_pajamas_run_core.dsp.mel import N_FFT, RATE, mel_filterbank
from llama_pajamas_starter.speech import tokens
from llama_pajamas_starter.speech.checkpoint import Checkpoint

_MAGIC: Final = 0x67676D6C
_FLOAT16: Final = 1
_ALWAYS_FLOAT32: Final = {
    "encoder.conv1.bias", "encoder.conv2.bias", "encoder.positional_embedding", "decoder.positional_embedding",
}  # fmt: skip


def write(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Writes a ggml file for whisper.cpp.

    Args:
        path: the file; its folder exists.
        checkpoint: the model.

    Returns:
        The path.
    """
    path = Path(path)
    sizes = checkpoint.dimensions
    vocabulary = tokens.text_tokens()
    filters = mel_filterbank(sizes.n_mels, N_FFT, RATE)
    with path.open("wb") as file:
        file.write(
            struct.pack(
                "<12i", _MAGIC, sizes.n_vocab, sizes.n_audio_ctx, sizes.n_audio_state, sizes.n_audio_head,
                sizes.n_audio_layer, sizes.n_text_ctx, sizes.n_text_state, sizes.n_text_head, sizes.n_text_layer,
                sizes.n_mels, _FLOAT16,
            )
        )  # fmt: skip
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        file.write(struct.pack("<i", len(vocabulary)))
        for token in vocabulary:
            file.write(struct.pack("<i", len(token)) + token)
        for name, tensor in checkpoint.tensors.items():
            array = tensor.reshape(-1, 1) if name in ("encoder.conv1.bias", "encoder.conv2.bias") else tensor
            half = array.ndim >= 2 and name not in _ALWAYS_FLOAT32
            array = np.ascontiguousarray(array, np.float16 if half else np.float32)
            encoded = name.encode()
            file.write(struct.pack("<3i", array.ndim, len(encoded), int(half)))
            file.write(struct.pack(f"<{array.ndim}i", *array.shape[::-1]) + encoded + array.tobytes())
    return path
