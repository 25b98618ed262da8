"""The names of a Whisper checkpoint's tensors, from one library to the other and back."""

import numpy as np
import pytest
from support import tiny_whisper

from llama_pajamas_run_core.whisper.names import hugging_face_name, openai_name


@pytest.mark.parametrize(
    ("hugging_face", "openai"),
    [
        ("encoder.conv1.weight", "encoder.conv1.weight"),
        ("encoder.embed_positions.weight", "encoder.positional_embedding"),
        ("encoder.layer_norm.bias", "encoder.ln_post.bias"),
        ("encoder.layers.3.self_attn.k_proj.weight", "encoder.blocks.3.attn.key.weight"),
        ("encoder.layers.3.self_attn_layer_norm.weight", "encoder.blocks.3.attn_ln.weight"),
        ("encoder.layers.11.fc1.bias", "encoder.blocks.11.mlp.0.bias"),
        ("encoder.layers.11.final_layer_norm.bias", "encoder.blocks.11.mlp_ln.bias"),
        ("decoder.embed_tokens.weight", "decoder.token_embedding.weight"),
        ("decoder.layer_norm.weight", "decoder.ln.weight"),
        ("decoder.layers.0.encoder_attn.out_proj.bias", "decoder.blocks.0.cross_attn.out.bias"),
        ("decoder.layers.0.encoder_attn_layer_norm.bias", "decoder.blocks.0.cross_attn_ln.bias"),
        ("decoder.layers.0.self_attn.q_proj.weight", "decoder.blocks.0.attn.query.weight"),
        ("decoder.layers.0.fc2.weight", "decoder.blocks.0.mlp.2.weight"),
    ],
)
def test_both_names(hugging_face: str, openai: str) -> None:
    assert openai_name(hugging_face) == openai
    assert hugging_face_name(openai) == hugging_face


def test_every_tensor_keeps_a_name_of_its_own() -> None:
    nothing = np.zeros(0, np.float32)
    names = [name for name, _ in tiny_whisper.tensors(nothing, nothing)]
    theirs = [hugging_face_name(name) for name in names]
    assert len(set(theirs)) == len(names)
    assert [openai_name(name) for name in theirs] == names
