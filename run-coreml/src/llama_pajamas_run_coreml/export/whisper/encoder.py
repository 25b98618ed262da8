"""From a log-mel spectrogram to the keys and values of the decoder's attention to it."""

from collections.abc import Mapping
from typing import Any

from llama_pajamas_run_coreml.export._mil import mb
from llama_pajamas_run_coreml.export.convert import Input, program
from llama_pajamas_run_coreml.export.whisper.checkpoint import WhisperCheckpoint
from llama_pajamas_run_coreml.export.whisper.layers import Layers, scored


def encoder(checkpoint: WhisperCheckpoint, target: str, precision: str) -> tuple[Any, list[Any]]:
    """The encoder's program, and coremltools' declarations of its inputs.

    Args:
        checkpoint: the model.
        target: the oldest system that runs it.
        precision: "float16" or "float32": also of the keys and values that it gives.
    """
    sizes = checkpoint.sizes
    mel = Input("mel", (1, sizes.n_mels, 2 * sizes.n_audio_ctx))
    return program([mel], target, lambda inputs, _: _encode(checkpoint, inputs["mel"], precision))


def _encode(checkpoint: WhisperCheckpoint, x: Any, precision: str) -> Mapping[str, Any]:
    sizes = checkpoint.sizes
    layers = Layers(checkpoint, sizes.n_audio_head, sizes.n_audio_state)
    for name, stride in (("encoder.conv1", 1), ("encoder.conv2", 2)):
        weight, bias = checkpoint.linear(name)
        x = mb.conv(x=x, weight=weight, bias=bias, strides=[stride], pad_type="custom", pad=[1, 1])
        x = mb.gelu(x=x, mode="EXACT")
    x = mb.transpose(x=x, perm=[0, 2, 1])
    x = mb.add(x=x, y=checkpoint.positions("encoder", sizes.n_audio_ctx)[None])
    for index in range(sizes.n_audio_layer):
        name = f"encoder.layers.{index}"
        normed = layers.norm(x, f"{name}.self_attn_layer_norm")
        attention = f"{name}.self_attn"
        scores = scored(layers.queries(normed, attention), layers.keys(normed, attention))
        x = mb.add(x=x, y=layers.attend(scores, layers.values(normed, attention), attention))
        x = layers.mlp(x, name)
    x = layers.norm(x, "encoder.layer_norm")
    return {
        "cross_keys": _stacked(checkpoint, x, "keys", precision),
        "cross_values": _stacked(checkpoint, x, "values", precision),
    }


def _stacked(checkpoint: WhisperCheckpoint, x: Any, kind: str, precision: str) -> Any:
    """What every layer of the decoder needs of the audio: [layers, heads, positions, width / heads]."""
    sizes = checkpoint.sizes
    layers = Layers(checkpoint, sizes.n_text_head, sizes.n_text_state)
    make = layers.keys if kind == "keys" else layers.values
    made = [make(x, f"decoder.layers.{index}.encoder_attn") for index in range(sizes.n_text_layer)]
    return as_cache(mb.stack(values=made, axis=0) if len(made) > 1 else mb.expand_dims(x=made[0], axes=[0]), precision)


def as_cache(x: Any, precision: str) -> Any:
    """Keys or values in the precision that they are kept in."""
    return mb.cast(x=x, dtype="fp16") if precision == "float16" else x
