"""Whisper in PyTorch, under openai-whisper's tensor names, with the compact token table of the starter checkpoint."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_pajamas_run_core.dsp.mel import HOP, N_FFT, RATE, mel_filterbank
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_starter.speech import tokens
from llama_pajamas_starter.speech.checkpoint import TIMESTAMP_WAVES, TokenTable, sinusoids, timestamp_waves


class LogMel(nn.Module):
    """Whisper's features: ``(batch, samples)`` at 16 kHz to ``(batch, 80, samples / 160)``."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT))
        self.register_buffer("filters", torch.from_numpy(mel_filterbank(80, N_FFT, RATE).copy()))

    @torch.no_grad()
    def forward(self, audio: Tensor, headroom: Tensor | None = None) -> Tensor:
        """Features; ``headroom`` (``(batch, 1, 1)``) lifts the floor as louder audio elsewhere in a recording would."""
        with torch.autocast(audio.device.type, enabled=False):
            power = torch.stft(audio.float(), N_FFT, HOP, window=self.window, return_complex=True)[..., :-1].abs() ** 2
            log = torch.clamp(self.filters @ power, min=1e-10).log10()
            top = log.amax((1, 2), keepdim=True)
            if headroom is not None:
                top = top + headroom
            return (torch.maximum(log, top - 8.0) + 4.0) / 4.0


class Attention(nn.Module):
    """Multi-head attention; keys have no bias, as in Whisper."""

    def __init__(self, state: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(state, state)
        self.key = nn.Linear(state, state, bias=False)
        self.value = nn.Linear(state, state)
        self.out = nn.Linear(state, state)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, source: Tensor | None = None, causal: bool = False) -> Tensor:
        source = x if source is None else source
        q, k, v = self._split(self.query(x)), self._split(self.key(source)), self._split(self.value(source))
        made = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(made.transpose(1, 2).flatten(2))

    def with_weights(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the log of the attention weights ``(batch, heads, positions, frames)``."""
        q, k, v = self._split(self.query(x)), self._split(self.key(source)), self._split(self.value(source))
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        log = scores.log_softmax(-1)
        return self.out((log.exp().to(v.dtype) @ v).transpose(1, 2).flatten(2)), log


class Block(nn.Module):
    """A transformer layer, layer norm first."""

    def __init__(self, state: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.attn = Attention(state, heads)
        self.attn_ln = nn.LayerNorm(state)
        if cross:
            self.cross_attn = Attention(state, heads)
            self.cross_attn_ln = nn.LayerNorm(state)
        self.mlp = nn.Sequential(nn.Linear(state, 4 * state), nn.GELU(), nn.Linear(4 * state, state))
        self.mlp_ln = nn.LayerNorm(state)

    def forward(self, x: Tensor, source: Tensor | None = None, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        x = x + self.attn(self.attn_ln(x), causal=source is not None)
        log = None
        if source is not None:
            if weights:
                made, log = self.cross_attn.with_weights(self.cross_attn_ln(x), source)
                x = x + made
            else:
                x = x + self.cross_attn(self.cross_attn_ln(x), source)
        return x + self.mlp(self.mlp_ln(x)), log


class Encoder(nn.Module):
    """Features to ``(batch, frames / 2, state)``."""

    def __init__(self, sizes: Dimensions) -> None:
        super().__init__()
        state = sizes.n_audio_state
        self.conv1 = nn.Conv1d(sizes.n_mels, state, 3, padding=1)
        self.conv2 = nn.Conv1d(state, state, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(state, sizes.n_audio_head, False) for _ in range(sizes.n_audio_layer))
        self.ln_post = nn.LayerNorm(state)
        self.register_buffer("positions", torch.from_numpy(sinusoids(sizes.n_audio_ctx, state)), persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.positions[: x.shape[1]].to(x.dtype)
        for block in self.blocks:
            x, _ = block(x)
        return self.ln_post(x)


class Decoder(nn.Module):
    """Token classes (see :class:`SpeechModel`) to logits over the classes."""

    def __init__(self, sizes: Dimensions) -> None:
        super().__init__()
        state = sizes.n_text_state
        self.positional_embedding = nn.Parameter(torch.randn(sizes.n_text_ctx, state) * 0.01)
        self.blocks = nn.ModuleList(Block(state, sizes.n_text_head, True) for _ in range(sizes.n_text_layer))
        self.ln = nn.LayerNorm(state)


class SpeechModel(nn.Module):
    """The whole model.

    It works on classes instead of Whisper's 51864 tokens: the tokens of the table, the 1501 timestamps, and one class
    for all others together, whose logit gets the logarithm of their number.
    """

    def __init__(self, sizes: Dimensions, table: TokenTable) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = Encoder(sizes)
        self.decoder = Decoder(sizes)
        state = sizes.n_text_state
        self.rows = nn.Parameter(torch.randn(table.rows, state) * 0.03)
        self.capital = nn.Parameter(torch.zeros(state))
        self.unused = nn.Parameter(torch.zeros(state))
        self.timestamps = nn.Parameter(torch.randn(2 * TIMESTAMP_WAVES, state) * 0.005)
        self.table = table
        self.register_buffer("row_of", torch.from_numpy(table.row_of.astype(np.int64)), persistent=False)
        self.register_buffer(
            "is_capital", torch.from_numpy(table.is_capital.astype(np.float32))[:, None], persistent=False
        )
        self.register_buffer("waves", torch.from_numpy(timestamp_waves()), persistent=False)
        known = len(table.ids)
        self.classes = known + tokens.TIMESTAMPS + 1
        class_of = np.full(tokens.VOCABULARY_SIZE, self.classes - 1, np.int64)
        class_of[table.ids] = np.arange(known)
        class_of[tokens.FIRST_TIMESTAMP :] = known + np.arange(tokens.TIMESTAMPS)
        self.register_buffer("class_of", torch.from_numpy(class_of), persistent=False)
        token_of = np.concatenate([table.ids, np.arange(tokens.FIRST_TIMESTAMP, tokens.VOCABULARY_SIZE), [-1]])
        self.register_buffer("token_of", torch.from_numpy(token_of.astype(np.int64)), persistent=False)
        bias = torch.zeros(self.classes)
        bias[-1] = float(np.log(tokens.VOCABULARY_SIZE - known - tokens.TIMESTAMPS))
        self.register_buffer("bias", bias, persistent=False)
        for name, parameter in self.named_parameters():
            if name.endswith(("attn.out.weight", "mlp.2.weight")):
                parameter.data *= 0.5

    def embedding(self) -> Tensor:
        """The rows of all classes: ``(classes, state)``."""
        known = self.rows[self.row_of] + self.is_capital * self.capital
        return torch.cat([known, self.waves @ self.timestamps, self.unused[None]])

    def decode(self, classes: Tensor, source: Tensor, guided: tuple[int, ...] = ()) -> tuple[Tensor, list[Tensor]]:
        """Logits ``(batch, positions, classes)``, and the log attention weights of the guided layers."""
        embedding = self.embedding()
        x = F.embedding(classes, embedding) + self.decoder.positional_embedding[: classes.shape[1]]
        logs = []
        for index, block in enumerate(self.decoder.blocks):
            x, log = block(x, source, index in guided)
            if log is not None:
                logs.append(log)
        return self.decoder.ln(x) @ embedding.to(x.dtype).T + self.bias, logs

    def compact(self) -> dict[str, np.ndarray]:
        """The tensors as ``checkpoint.save`` takes them."""
        stored = {
            name: value.detach().float().cpu().numpy()
            for name, value in self.state_dict().items()
            if name.startswith(("encoder.", "decoder."))
        }
        for name in ("rows", "capital", "unused", "timestamps"):
            stored[f"tokens.{name}"] = getattr(self, name).detach().float().cpu().numpy()
        return stored | {
            "tokens.ids": self.table.ids,
            "tokens.row_of": self.table.row_of,
            "tokens.is_capital": self.table.is_capital,
        }

    def load_compact(self, stored: dict[str, np.ndarray]) -> None:
        """Takes the weights of a stored checkpoint; tokens that it does not know keep their fresh rows."""
        for name, parameter in self.named_parameters():
            if name != "rows":
                key = name if name.startswith(("encoder.", "decoder.")) else f"tokens.{name}"
                parameter.data.copy_(torch.from_numpy(stored[key].astype(np.float32)))
        rows, capital = stored["tokens.rows"].astype(np.float32), stored["tokens.capital"].astype(np.float32)
        old = {
            int(token): rows[row] + upper * capital
            for token, row, upper in zip(
                stored["tokens.ids"], stored["tokens.row_of"], stored["tokens.is_capital"], strict=True
            )
        }
        # Capitalised tokens first, so that a row shared with a lower-case token is that token's where it is known.
        order = np.argsort(1 - self.table.is_capital.astype(int), kind="stable")
        for index in order:
            token = int(self.table.ids[index])
            if token in old:
                row = old[token] - int(self.table.is_capital[index]) * capital
                self.rows.data[int(self.table.row_of[index])] = torch.from_numpy(row)

    @torch.no_grad()
    def transcribe(self, mel: Tensor, limit: int = 100) -> list[str]:
        """Greedy transcripts without timestamps."""
        source = self.encoder(mel)
        begin = [tokens.START_OF_TRANSCRIPT, tokens.NO_TIMESTAMPS]
        given = self.class_of[torch.tensor([begin] * len(mel), device=mel.device)]
        end = int(self.class_of[tokens.END_OF_TEXT])
        done = torch.zeros(len(mel), dtype=torch.bool, device=mel.device)
        for _ in range(limit):
            logits, _ = self.decode(given, source)
            following = logits[:, -1, : len(self.table.ids)].argmax(-1)
            following = torch.where(done, end, following)
            given = torch.cat([given, following[:, None]], 1)
            done |= following == end
            if bool(done.all()):
                break
        return [tokens.decode(t for t in row if t >= 0).strip() for row in self.token_of[given].tolist()]
