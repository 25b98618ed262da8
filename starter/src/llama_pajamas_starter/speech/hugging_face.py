"""The checkpoint in Hugging Face's layout: ``WhisperForConditionalGeneration.from_pretrained`` loads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.whisper.names import hugging_face_name
from llama_pajamas_starter.speech import tokens
from llama_pajamas_starter.speech.checkpoint import Checkpoint


def write(folder: str | Path, checkpoint: Checkpoint) -> Path:
    """Writes config.json, generation_config.json and model.safetensors, in float32.

    Args:
        folder: made where it does not exist.
        checkpoint: the model.

    Returns:
        The folder.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{hugging_face_name(name)}": _array(name, tensor) for name, tensor in checkpoint.tensors.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    generation = {
        "alignment_heads": [list(pair) for pair in checkpoint.alignment_heads],
        "decoder_start_token_id": tokens.START_OF_TRANSCRIPT,
        "eos_token_id": tokens.END_OF_TEXT,
        "is_multilingual": False,
        "no_timestamps_token_id": tokens.NO_TIMESTAMPS,
        "pad_token_id": tokens.END_OF_TEXT,
        "prev_sot_token_id": tokens.START_OF_PREVIOUS,
        "return_timestamps": True,
    }
    for name, content in (("config.json", config(checkpoint)), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    return folder


def config(checkpoint: Checkpoint) -> dict[str, Any]:
    """What Hugging Face's config.json says of the model."""
    sizes = checkpoint.dimensions
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "num_mel_bins": sizes.n_mels,
        "max_source_positions": sizes.n_audio_ctx,
        "d_model": sizes.n_audio_state,
        "encoder_attention_heads": sizes.n_audio_head,
        "encoder_ffn_dim": 4 * sizes.n_audio_state,
        "encoder_layers": sizes.n_audio_layer,
        "vocab_size": sizes.n_vocab,
        "max_target_positions": sizes.n_text_ctx,
        "decoder_attention_heads": sizes.n_text_head,
        "decoder_ffn_dim": 4 * sizes.n_text_state,
        "decoder_layers": sizes.n_text_layer,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "bos_token_id": tokens.END_OF_TEXT,
        "eos_token_id": tokens.END_OF_TEXT,
        "pad_token_id": tokens.END_OF_TEXT,
        "decoder_start_token_id": tokens.START_OF_TRANSCRIPT,
    }


def _array(name: str, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    flat = np.squeeze(tensor, -1) if name.endswith("bias") and tensor.ndim == 2 else tensor
    return np.ascontiguousarray(flat, np.float32)
