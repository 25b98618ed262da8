"""Whisper's network in plain numpy, float32: what a package is compared with.

After openai-whisper's ``model.py`` (https://github.com/openai/whisper, MIT licence).
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_coreml.evaluate.ops.activations import gelu, normalized_exponentials
from llama_pajamas_run_coreml.export.whisper.checkpoint import WhisperCheckpoint

Floats = npt.NDArray[np.float32]


class WhisperNetwork:
    """Encoder and decoder of a checkpoint.

    Args:
        checkpoint: its weights, which are read when they are needed for the first time.
    """

    def __init__(self, checkpoint: WhisperCheckpoint) -> None:
        self._sizes = checkpoint.sizes
        self._pairs = cache(checkpoint.linear)
        self._positions = cache(checkpoint.positions)
        self._table = checkpoint.tensor("decoder.embed_tokens.weight")
        out = checkpoint.output()
        self._out = self._table if out is None else out

    def encode(self, mel: Floats) -> Floats:
        """The encoder's answer [positions, width] to a spectrogram [n_mels, 2 * positions]."""
        sizes = self._sizes
        x = mel
        for name, stride in (("encoder.conv1", 1), ("encoder.conv2", 2)):
            weight, bias = self._pairs(name)
            padded = np.pad(x, ((0, 0), (1, 1)))
            seen = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, ::stride]  # [in, places, 3]
            x = gelu(np.einsum("oik,ipk->op", weight, seen, optimize=True) + bias[:, None])
        x = x.T + self._positions("encoder", sizes.n_audio_ctx)
        for index in range(sizes.n_audio_layer):
            name = f"encoder.layers.{index}"
            x = x + self._attend(x, f"{name}.self_attn", sizes.n_audio_head)
            x = self._mlp(x, name)
        return self._norm(x, "encoder.layer_norm")

    def cross(self, audio: Floats) -> tuple[Floats, Floats]:
        """Keys and values of the decoder's attention to the audio, [layers, heads, positions, width / heads]."""
        names = [f"decoder.layers.{index}.encoder_attn" for index in range(self._sizes.n_text_layer)]
        return tuple(  # type: ignore[return-value]
            np.stack([self._heads(self._linear(audio, f"{name}.{part}"), self._sizes.n_text_head) for name in names])
            for part in ("k_proj", "v_proj")
        )

    def decode(self, tokens: npt.NDArray[np.int32], cross: tuple[Floats, Floats], *, last: bool = False) -> Floats:
        """The logits [n, n_vocab] behind each of some tokens [n], or [1, n_vocab] behind the last alone.

        Args:
            tokens: the transcript so far.
            cross: of the audio, as :meth:`cross` makes them.
            last: whether only the last token's are wanted.
        """
        sizes = self._sizes
        x = self._table[tokens] + self._positions("decoder", sizes.n_text_ctx)[: len(tokens)]
        mask = np.triu(np.full((len(tokens), len(tokens)), -np.inf, np.float32), 1)
        for index in range(sizes.n_text_layer):
            name = f"decoder.layers.{index}"
            x = x + self._attend(x, f"{name}.self_attn", sizes.n_text_head, mask=mask)
            heard = cross[0][index], cross[1][index]
            x = x + self._attend(x, f"{name}.encoder_attn", sizes.n_text_head, heard)
            x = self._mlp(x, name)
        return self._norm(x[-1:] if last else x, "decoder.layer_norm") @ self._out.T

    def _attend(
        self,
        x: Floats,
        name: str,
        heads: int,
        seen: tuple[Floats, Floats] | None = None,
        *,
        mask: Floats | None = None,
    ) -> Floats:
        """Attention of ``x`` to keys and values, or to itself. Normalized before, as Whisper does."""
        normed = self._norm(x, f"{name}_layer_norm")
        query = self._heads(self._linear(normed, f"{name}.q_proj"), heads)
        key, value = seen or tuple(
            self._heads(self._linear(normed, f"{name}.{part}"), heads) for part in ("k_proj", "v_proj")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights = normalized_exponentials((scores if mask is None else scores + mask).astype(np.float32))
        joined = (weights @ value).transpose(1, 0, 2).reshape(len(x), -1)
        return self._linear(joined, f"{name}.out_proj")

    def _mlp(self, x: Floats, name: str) -> Floats:
        inner = gelu(self._linear(self._norm(x, f"{name}.final_layer_norm"), f"{name}.fc1"))
        return x + self._linear(inner, f"{name}.fc2")

    def _norm(self, x: Floats, name: str) -> Floats:
        weight, bias = self._pairs(name)
        centred = x - x.mean(-1, keepdims=True)
        scaled: Floats = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5) * weight + bias
        return scaled

    def _linear(self, x: Floats, name: str) -> Floats:
        weight, bias = self._pairs(name)
        return x @ weight.T + bias

    @staticmethod
    def _heads(x: Floats, heads: int) -> Floats:
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)
