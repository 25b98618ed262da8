"""A GGUF language model of random weights: a real architecture and a real tokenizer, answering with noise.

Written with numpy and the ``gguf`` package in a fraction of a second, always the same for the same arguments.
"""

import collections
import re
from pathlib import Path

import gguf
import numpy as np

from support.chat_templates import CHAT_TEMPLATE

#: What the tokenizer learns its merges from.
TEXT = (
    "the quick brown fox jumps over the lazy dog. a small model runs on the edge, and the edge is where the llama"
    " sleeps in its pajamas. hello world, how are you today? I am a tiny random model that answers with noise; the"
    ' weather is nice and the time is now. {"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}} '
)


_MARKERS = ("<|bos|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
_WORDS = ("<tool_call>", "</tool_call>", "<think>", "</think>")


def write_tiny_gguf(
    path: Path,
    *,
    dim: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    vocabulary: int = 600,
    context: int = 2048,
    dtype: str = "f32",
    seed: int = 0,
    pooling: gguf.PoolingType | None = None,
    template: str | None = CHAT_TEMPLATE,
    extra: dict[str, float] | None = None,
) -> Path:
    """Write a model.

    Args:
        path: the file to write.
        dim: width of the model.
        layers: how many blocks.
        heads: attention heads.
        kv_heads: heads of keys and values.
        vocabulary: tokens; at least 300.
        context: the context it claims to be trained for.
        dtype: "f32", "f16" or "q8_0".
        seed: of the weights.
        pooling: makes it an embedding model.
        template: its chat template, or None for none.
        extra: more float keys.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random-llama")
    writer.add_context_length(context)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * dim)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(dim // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    for key, value in (extra or {}).items():
        writer.add_float32(key, value)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    add_tokenizer(writer, vocabulary, template)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.7 / shape[-1] ** 0.5)

    def put(name: str, values: np.ndarray) -> None:
        if dtype == "q8_0":
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values.astype(np.float16 if dtype == "f16" else np.float32))

    keys = dim // heads * kv_heads
    put("token_embd.weight", draw(vocabulary, dim))
    for layer in range(layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(dim, np.float32))
        put(f"{block}attn_q.weight", draw(dim, dim))
        put(f"{block}attn_k.weight", draw(keys, dim))
        put(f"{block}attn_v.weight", draw(keys, dim))
        put(f"{block}attn_output.weight", draw(dim, dim))
        put(f"{block}ffn_gate.weight", draw(2 * dim, dim))
        put(f"{block}ffn_up.weight", draw(2 * dim, dim))
        put(f"{block}ffn_down.weight", draw(dim, 2 * dim))
    writer.add_tensor("output_norm.weight", np.ones(dim, np.float32))
    values = draw(vocabulary, dim)
    values[-len(_MARKERS) :] = 0  # markers are as rare as in a trained model's answers
    put("output.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: gguf.GGUFWriter, size: int, template: str | None) -> None:
    """Add a byte-level BPE vocabulary: bytes first (in GPT-2 order), what the merges make, fillers, words, markers."""
    letters = list(_byte_letters().values())
    merges = _learn_merges(size - len(letters) - len(_MARKERS) - len(_WORDS))
    tokens = list(dict.fromkeys([*letters, *(one + other for one, other in merges)]))
    tokens += [f"zq{number}" for number in range(size - len(tokens) - len(_MARKERS) - len(_WORDS))]
    normal, marker, word = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
    types = [normal] * len(tokens) + [word] * len(_WORDS) + [marker] * len(_MARKERS)
    tokens += [*_WORDS, *_MARKERS]
    numbers = {token: number for number, token in enumerate(tokens)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in types])
    writer.add_token_merges([f"{one} {other}" for one, other in merges])
    writer.add_bos_token_id(numbers["<|bos|>"])
    writer.add_eos_token_id(numbers["<|im_end|>"])
    writer.add_pad_token_id(numbers["<|pad|>"])
    writer.add_add_bos_token(True)
    if template is not None:
        writer.add_chat_template(template)


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte."""
    letters = {byte: chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + number) for number, byte in enumerate(others)}


def _learn_merges(count: int) -> list[tuple[str, str]]:
    letters = _byte_letters()
    words = collections.Counter(re.findall(r" ?\w+| ?[^\s\w]+|\s+", TEXT))
    split = {word: [letters[byte] for byte in word.encode()] for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, times in words.items():
            for pair in zip(split[word], split[word][1:], strict=False):
                pairs[pair] += times
        if not pairs:
            break
        best = max(pairs.items(), key=lambda item: (item[1], item[0]))[0]
        merges.append(best)
        for word, parts in split.items():
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            split[word] = merged
    return merges
