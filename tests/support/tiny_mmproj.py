"""A multimodal projector of random weights: a SigLIP vision transformer as Gemma 3 has one, for a tiny model."""

from pathlib import Path

import gguf
import numpy as np


def write_tiny_mmproj(path: Path, *, text_dim: int = 64, size: int = 32, patch: int = 8, seed: int = 0) -> Path:
    """Write a projector whose pictures become four tokens.

    Args:
        path: the file to write.
        text_dim: width of the language model.
        size: side of the pictures it sees, in pixels.
        patch: side of a patch.
        seed: of the weights.
    """
    dim, heads, ff = 32, 2, 64
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    writer.add_string("clip.projector_type", "gemma3")
    numbers = {
        "image_size": size,
        "patch_size": patch,
        "embedding_length": dim,
        "feed_forward_length": ff,
        "block_count": 1,
        "projection_dim": text_dim,
        "attention.head_count": heads,
        "projector.scale_factor": 2,
    }
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])

    def put(name: str, *shape: int) -> None:
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(shape[-1] ** -0.5)
        writer.add_tensor(name, np.ones(shape, np.float32) if "ln" in name and name.endswith("weight") else values)

    put("v.patch_embd.weight", dim, 3, patch, patch)
    put("v.patch_embd.bias", dim)
    put("v.position_embd.weight", (size // patch) ** 2, dim)
    for norm in ("ln1", "ln2"):
        put(f"v.blk.0.{norm}.weight", dim)
        put(f"v.blk.0.{norm}.bias", dim)
    for matrix in ("attn_q", "attn_k", "attn_v", "attn_out"):
        put(f"v.blk.0.{matrix}.weight", dim, dim)
        put(f"v.blk.0.{matrix}.bias", dim)
    put("v.blk.0.ffn_up.weight", ff, dim)
    put("v.blk.0.ffn_up.bias", ff)
    put("v.blk.0.ffn_down.weight", dim, ff)
    put("v.blk.0.ffn_down.bias", dim)
    put("v.post_ln.weight", dim)
    put("v.post_ln.bias", dim)
    put("mm.input_projection.weight", dim, text_dim)
    writer.add_tensor("mm.soft_emb_norm.weight", np.ones(dim, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
