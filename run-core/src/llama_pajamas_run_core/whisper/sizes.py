"""How large a Whisper model is."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from llama_pajamas_run_core.errors import LoadError

#: Hugging Face's names for what OpenAI calls otherwise.
_HUGGING_FACE: Final = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The dimensions of a model, under openai-whisper's names.

    Attributes:
        n_mels: bands of the spectrogram.
        n_audio_ctx: positions of the encoder, two frames each.
        n_audio_state: width of the encoder.
        n_audio_head: attention heads of its layers.
        n_audio_layer: its layers.
        n_vocab: tokens.
        n_text_ctx: the most tokens of a transcript, prompt included.
        n_text_state: width of the decoder.
        n_text_head: attention heads of its layers.
        n_text_layer: its layers.
    """

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Dimensions":
        """The dimensions that a config.json tells: OpenAI's names, also under "dimensions", or Hugging Face's.

        Raises:
            LoadError: one is missing, or senseless.
        """
        inner = config.get("dimensions", config)
        names = {field.name: field.name for field in fields(cls)} if "n_audio_state" in inner else _HUGGING_FACE
        try:
            sizes = cls(**{ours: int(inner[theirs]) for ours, theirs in names.items()})
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LoadError(f"This is no configuration of a Whisper model: {error!r}.") from error
        wrong = [field.name for field in fields(cls) if getattr(sizes, field.name) < 1]
        for width, heads in (("n_audio_state", "n_audio_head"), ("n_text_state", "n_text_head")):
            if not wrong and getattr(sizes, width) % getattr(sizes, heads):
                wrong.append(heads)
        if wrong:
            raise LoadError(f"This is no configuration of a Whisper model: {wrong[0]} is {getattr(sizes, wrong[0])}.")
        return sizes

    @property
    def last_layers(self) -> tuple[tuple[int, int], ...]:
        """(layer, head) pairs of the decoder's last half: where a model does not say which heads follow the speech,
        it is these, because there Whisper settles on the next word.
        """
        layers = range(self.n_text_layer // 2, self.n_text_layer)
        return tuple((layer, head) for layer in layers for head in range(self.n_text_head))


def alignment_heads(pairs: Any, sizes: Dimensions) -> tuple[tuple[int, int], ...]:
    """The (layer, head) pairs that a configuration lists, in order; those of the last half where it lists none.

    Raises:
        LoadError: the model has no such head.
    """
    if not pairs:
        return sizes.last_layers
    try:
        found = tuple(sorted((int(layer), int(head)) for layer, head in pairs))
    except (TypeError, ValueError, OverflowError) as error:
        raise LoadError(f"alignment_heads must be pairs of layer and head, not {pairs!r}.") from error
    if not all(0 <= layer < sizes.n_text_layer and 0 <= head < sizes.n_text_head for layer, head in found):
        raise LoadError(f"alignment_heads names heads that the decoder does not have: {found}.")
    return found
