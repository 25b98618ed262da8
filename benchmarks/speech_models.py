"""Whisper models of OpenAI's sizes with random weights: checkpoints in Hugging Face's layout, and their ONNX graphs.

    python benchmarks/speech_models.py tiny base small --folder FOLDER

Speed does not depend on the weights, as long as a fixed number of tokens is decoded.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: Width, heads and layers of each part.
SHAPES = {"tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12)}
#: One that a test makes in a moment.
SMALLEST = {"smallest": (64, 1, 2)}
VOCABULARY, MELS, POSITIONS, TOKENS = 51_865, 80, 1500, 448


def config(size: str) -> dict[str, Any]:
    """Hugging Face's config.json of a size."""
    width, heads, layers = (SHAPES | SMALLEST)[size]
    end = 50_257
    return {
        "architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "activation_function": "gelu",
        "num_mel_bins": MELS, "max_source_positions": POSITIONS, "d_model": width, "vocab_size": VOCABULARY,
        "encoder_attention_heads": heads, "encoder_ffn_dim": 4 * width, "encoder_layers": layers,
        "decoder_attention_heads": heads, "decoder_ffn_dim": 4 * width, "decoder_layers": layers,
        "max_target_positions": TOKENS, "is_encoder_decoder": True, "tie_word_embeddings": True,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": end + 1,
    }  # fmt: skip


def write_checkpoint(folder: Path, size: str) -> Path:
    """Write a checkpoint with random weights in float16."""
    from safetensors.numpy import save_file

    width, _, layers = (SHAPES | SMALLEST)[size]
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}

    def random(name: str, *shape: int, scale: float = 0.02) -> None:
        weights[f"model.{name}"] = (scale * rng.standard_normal(shape, np.float32)).astype(np.float16)

    def norm(name: str) -> None:
        weights[f"model.{name}.weight"] = np.ones(width, np.float16)
        weights[f"model.{name}.bias"] = np.zeros(width, np.float16)

    def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> None:
        random(f"{name}.weight", outputs, inputs)
        if bias:
            random(f"{name}.bias", outputs)

    random("encoder.conv1.weight", width, MELS, 3)
    random("encoder.conv1.bias", width)
    random("encoder.conv2.weight", width, width, 3)
    random("encoder.conv2.bias", width)
    random("encoder.embed_positions.weight", POSITIONS, width)
    random("decoder.embed_positions.weight", TOKENS, width)
    random("decoder.embed_tokens.weight", VOCABULARY, width)
    for part, kinds in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        for layer in range(layers):
            name = f"{part}.layers.{layer}"
            for kind in kinds:
                for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{name}.{kind}.{projection}", width, width, bias=projection != "k_proj")
                norm(f"{name}.{kind}_layer_norm")
            linear(f"{name}.fc1", 4 * width, width)
            linear(f"{name}.fc2", width, 4 * width)
            norm(f"{name}.final_layer_norm")
        norm(f"{part}.layer_norm")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(size), indent=2) + "\n", "utf-8")
    return folder


def model_path(size: str, folder: Path) -> Path:
    """A size's folder, with ``checkpoint`` and ``onnx`` in it; made if it is missing."""
    from llama_pajamas_run_onnx.export import export

    place = folder / f"whisper-{size}"
    if not (place / "checkpoint" / "config.json").is_file():
        write_checkpoint(place / "checkpoint", size)
    if not (place / "onnx").is_dir():
        export(place / "checkpoint", place / "onnx")
    return place


def main() -> int:
    """Make models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", choices=[*SHAPES, *SMALLEST])
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    for size in given.sizes:
        print(model_path(size, given.folder).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
