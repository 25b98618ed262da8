"""What a Whisper checkpoint's tensors are called: by openai-whisper, and by Hugging Face behind "model."."""

from typing import Final

#: Hugging Face's part of a name and openai-whisper's; in this order no part is found in one already replaced.
_PARTS: Final = (
    ("encoder_attn_layer_norm", "cross_attn_ln"), (".encoder_attn.", ".cross_attn."),
    (".self_attn_layer_norm", ".attn_ln"), (".self_attn.", ".attn."), ("final_layer_norm", "mlp_ln"),
    ("embed_positions.weight", "positional_embedding"), ("embed_tokens", "token_embedding"), ("layers", "blocks"),
    (".q_proj", ".query"), (".k_proj", ".key"), (".v_proj", ".value"), (".out_proj", ".out"), ("fc1", "mlp.0"),
    ("fc2", "mlp.2"), ("encoder.layer_norm", "encoder.ln_post"), ("decoder.layer_norm", "decoder.ln"),
)  # fmt: skip


def openai_name(name: str) -> str:
    """openai-whisper's name of the tensor that Hugging Face calls this, without "model."."""
    for theirs, openai in _PARTS:
        name = name.replace(theirs, openai)
    return name


def hugging_face_name(name: str) -> str:
    """Hugging Face's name, without "model.", of the tensor that openai-whisper calls this."""
    for theirs, openai in _PARTS:
        name = name.replace(openai, theirs)
    return name
