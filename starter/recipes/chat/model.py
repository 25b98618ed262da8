"""A small Qwen3 in PyTorch, with the parameter names of Hugging Face's checkpoint.

Source: Qwen3 Technical Report (2025); the layout follows ``transformers``' Qwen3ForCausalLM: RMSNorm before each
block, per-head RMSNorm on queries and keys, rotary positions on half-split heads, SwiGLU, tied embeddings.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    vocabulary: int = 1536
    width: int = 160
    layers: int = 8
    inner: int = 384
    heads: int = 6
    kv_heads: int = 2
    head: int = 32
    theta: float = 10_000.0
    epsilon: float = 1e-6
    context: int = 2048

    def hugging_face(self, end: int, pad: int) -> dict[str, Any]:
        """``config.json`` of the checkpoint."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.inner,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.theta,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "torch_dtype": "float16",
            "bos_token_id": None,
            "eos_token_id": end,
            "pad_token_id": pad,
        }


@dataclass
class Documents:
    """Which tokens of a packed batch may see each other.

    Attributes:
        bounds: (documents + 1,) int32 starts of the documents in the flattened batch, for the variable-length kernel.
        mask: (batch, 1, length, length) additive mask, for the plain kernel.
    """

    bounds: Tensor | None = None
    mask: Tensor | None = None


def varlen_attention() -> Any:
    """PyTorch's attention over documents of different lengths as ``f(q, k, v, bounds, longest)``, or ``None``."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    parameters = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"is_causal": True} if "is_causal" in parameters else {"window_size": (-1, 0)}

    def attend(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
        return varlen_attn(q, k, v, bounds, bounds, longest, longest, **options)

    return attend


_VARLEN = varlen_attention()


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square normalisation in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight.to(x.dtype)


class Norm(nn.Module):
    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on (batch, length, heads, head) with halves as pairs."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.width, c.heads * c.head, bias=False)
        self.k_proj = nn.Linear(c.width, c.kv_heads * c.head, bias=False)
        self.v_proj = nn.Linear(c.width, c.kv_heads * c.head, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head, c.width, bias=False)
        self.q_norm = Norm(c.head, c.epsilon)
        self.k_norm = Norm(c.head, c.epsilon)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, bounds: Tensor | None, mask: Tensor | None) -> Tensor:
        c, (batch, length, _) = self.c, x.shape
        q = rotate(self.q_norm(self.q_proj(x).view(batch, length, c.heads, c.head)), cos, sin).to(x.dtype)
        k = rotate(self.k_norm(self.k_proj(x).view(batch, length, c.kv_heads, c.head)), cos, sin).to(x.dtype)
        v = self.v_proj(x).view(batch, length, c.kv_heads, c.head)
        group = c.heads // c.kv_heads
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
        if bounds is not None:
            y = _VARLEN(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bounds, length)
            y = y.reshape(batch, length, c.heads * c.head)
        else:
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            y = y.transpose(1, 2).reshape(batch, length, c.heads * c.head)
        return self.o_proj(y)


class FeedForward(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.width, c.inner, bias=False)
        self.up_proj = nn.Linear(c.width, c.inner, bias=False)
        self.down_proj = nn.Linear(c.inner, c.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.input_layernorm = Norm(c.width, c.epsilon)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = Norm(c.width, c.epsilon)
        self.mlp = FeedForward(c)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, bounds: Tensor | None, mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, bounds, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocabulary, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = Norm(c.width, c.epsilon)


class Qwen3(nn.Module):
    """The whole model; ``state_dict()`` has Hugging Face's names."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.model = Decoder(c)
        frequency = c.theta ** (-torch.arange(0, c.head, 2, dtype=torch.float32) / c.head)
        angle = torch.outer(torch.arange(c.context, dtype=torch.float32), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 if "embed" in name else p.shape[1] ** -0.5 * (0.2 if deep else 0.7))

    def hidden(self, tokens: Tensor, documents: Documents) -> Tensor:
        """(batch, length) token ids -> (batch, length, width) states after the final norm.

        Positions count from the row's start, not the document's: rotary attention only sees their differences.
        """
        x = self.model.embed_tokens(tokens)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.bfloat16)
        length = tokens.shape[1]
        cos, sin = self.cos[:length, None].to(x.dtype), self.sin[:length, None].to(x.dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin, documents.bounds, documents.mask)
        return self.model.norm(x)

    def forward(self, tokens: Tensor, documents: Documents | None = None) -> Tensor:
        """(batch, length) token ids -> (batch, length, vocabulary) logits."""
        return F.linear(self.hidden(tokens, documents or Documents()), self.model.embed_tokens.weight)
