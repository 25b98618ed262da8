"""The Whisper network in MLX, with the tensor names of mlx-whisper's folders.

Architecture: "Robust Speech Recognition via Large-Scale Weak Supervision" (https://arxiv.org/abs/2212.04356).
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from llama_pajamas_run_core.whisper.sizes import Dimensions

#: Keys and values of a layer: its own, and those of the audio.
LayerCache = tuple[tuple[mx.array, mx.array], tuple[mx.array, mx.array]]


class Attention(nn.Module):
    """Attention with several heads.

    Args:
        width: of the model.
        heads: how many.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def keys_values(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """Keys and values of x [b, n, d], each [b, heads, n, d / heads]."""
        return self._split(self.key(x)), self._split(self.value(x))

    def __call__(self, x: mx.array, keys: mx.array, values: mx.array, *, causal: bool = False) -> mx.array:
        """Attend from x [b, n, d]; causal: to what is not behind it, its own last n keys being x's."""
        queries = self._split(self.query(x))
        scale = queries.shape[-1] ** -0.5
        mask = "causal" if causal and x.shape[1] > 1 else None
        heard = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
        made: mx.array = self.out(heard.transpose(0, 2, 1, 3).reshape(x.shape))
        return made

    def scores(self, x: mx.array, keys: mx.array) -> mx.array:
        """How much x [b, n, d] attends to each key, before the softmax: [b, heads, n, keys]."""
        queries = self._split(self.query(x))
        scaled: mx.array = queries * queries.shape[-1] ** -0.5
        return scaled @ keys.swapaxes(-1, -2)

    def _split(self, x: mx.array) -> mx.array:
        batch, length, width = x.shape
        return x.reshape(batch, length, self._heads, width // self._heads).transpose(0, 2, 1, 3)


class Block(nn.Module):
    """A layer; of the decoder, with attention to the audio."""

    def __init__(self, width: int, heads: int, *, cross: bool) -> None:
        super().__init__()
        self.attn, self.attn_ln = Attention(width, heads), nn.LayerNorm(width)
        if cross:
            self.cross_attn, self.cross_attn_ln = Attention(width, heads), nn.LayerNorm(width)
        self.mlp1, self.mlp2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp_ln = nn.LayerNorm(width)

    def encode(self, x: mx.array) -> mx.array:
        """A layer of the encoder."""
        normed = self.attn_ln(x)
        return self._mlp(x + self.attn(normed, *self.attn.keys_values(normed)))

    def decode(
        self, x: mx.array, audio: mx.array, cache: LayerCache | None, *, scores: bool
    ) -> tuple[mx.array, LayerCache, mx.array | None]:
        """A layer of the decoder: x, what to remember, and the scores of its attention to the audio."""
        normed = self.attn_ln(x)
        keys, values = self.attn.keys_values(normed)
        if cache is None:
            cross = self.cross_attn.keys_values(audio)
        else:
            (old_keys, old_values), cross = cache
            keys, values = mx.concatenate([old_keys, keys], axis=2), mx.concatenate([old_values, values], axis=2)
        x = x + self.attn(normed, keys, values, causal=True)
        normed = self.cross_attn_ln(x)
        seen = self.cross_attn.scores(normed, cross[0]) if scores else None
        x = x + self.cross_attn(normed, *cross)
        return self._mlp(x), ((keys, values), cross), seen

    def _mlp(self, x: mx.array) -> mx.array:
        return x + self.mlp2(nn.gelu(self.mlp1(self.mlp_ln(x))))


class Encoder(nn.Module):
    """From a log-mel spectrogram to what the decoder listens to."""

    def __init__(self, sizes: Dimensions) -> None:
        super().__init__()
        width = sizes.n_audio_state
        self.conv1 = nn.Conv1d(sizes.n_mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self._positions = mx.array(sinusoids(sizes.n_audio_ctx, width))
        self.blocks = [Block(width, sizes.n_audio_head, cross=False) for _ in range(sizes.n_audio_layer)]
        self.ln_post = nn.LayerNorm(width)

    def __call__(self, mel: mx.array) -> mx.array:
        """From [b, frames, mels] to [b, frames / 2, d]."""
        x = nn.gelu(self.conv2(nn.gelu(self.conv1(mel))))
        x = x + self._positions[: x.shape[1]].astype(x.dtype)
        for block in self.blocks:
            x = block.encode(x)
        made: mx.array = self.ln_post(x)
        return made


class Decoder(nn.Module):
    """From tokens and audio to the next token."""

    def __init__(self, sizes: Dimensions) -> None:
        super().__init__()
        width = sizes.n_text_state
        self.token_embedding = nn.Embedding(sizes.n_vocab, width)
        self.positional_embedding = mx.zeros((sizes.n_text_ctx, width))
        self.blocks = [Block(width, sizes.n_text_head, cross=True) for _ in range(sizes.n_text_layer)]
        self.ln = nn.LayerNorm(width)

    def __call__(
        self, tokens: mx.array, audio: mx.array, cache: list[LayerCache] | None = None, *, scores: bool = False
    ) -> tuple[mx.array, list[LayerCache], list[Any]]:
        """Logits float32 [b, v] behind the last of tokens [b, n], which follow those in the cache; the new cache; the
        scores by layer.
        """
        past = 0 if cache is None else cache[0][0][0].shape[2]
        x = self.token_embedding(tokens) + self.positional_embedding[past : past + tokens.shape[1]]
        made, seen = [], []
        for index, block in enumerate(self.blocks):
            x, layer, attention = block.decode(x, audio, None if cache is None else cache[index], scores=scores)
            made.append(layer)
            seen.append(attention)
        return self.token_embedding.as_linear(self.ln(x[:, -1])).astype(mx.float32), made, seen


class WhisperModel(nn.Module):
    """Encoder and decoder.

    Args:
        sizes: the dimensions.

    Attributes:
        alignment_heads: int [n, 2], (layer, head) pairs of the decoder whose attention follows the speech.
    """

    def __init__(self, sizes: Dimensions) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(sizes), Decoder(sizes)
        # Where a model does not say which, those of the last half: it is where Whisper settles on the next word.
        self.alignment_heads = mx.array(sizes.last_layers)


def sinusoids(length: int, channels: int) -> Any:
    """Whisper's positional embedding of the encoder, float32 [length, channels]: sines in the first half."""
    increment = np.log(10_000) / (channels // 2 - 1)
    scaled = np.arange(length)[:, None] * np.exp(-increment * np.arange(channels // 2))[None]
    return np.concatenate([np.sin(scaled), np.cos(scaled)], axis=1).astype(np.float32)
