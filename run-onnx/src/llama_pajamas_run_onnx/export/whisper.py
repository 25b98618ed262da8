"""Whisper checkpoints as two graphs: an encoder, and a decoder that remembers.

``encoder.onnx``
    ``mel`` float32 [batch, n_mels, frames], any even number of frames up to twice n_audio_ctx. Gives for each layer i
    of the decoder ``cross_key_i`` [batch, heads, width, positions] and ``cross_value_i`` [batch, heads, positions,
    width]: what the decoder's attention to the audio needs, computed once.

``decoder.onnx``
    ``tokens`` int32 [batch, n]; ``positions`` int32 [n], their places in the transcript; ``write`` float32 [n, room],
    in each row a 1 where that token's key and value go in the cache; ``mask`` float32 [n, room], 0 where a token
    attends and -10000 where it does not; the cache ``key_i`` [batch, heads, width, room] and ``value_i`` [batch, heads,
    room, width]; and what the encoder gives. Its outputs are ``logits`` [batch, n_vocab] behind the last token, the
    cache with the tokens in it, ``new_key_i`` and ``new_value_i``, and ``scores`` [batch, heads, n, positions]: how
    much each token attends to the audio in the alignment heads, before the softmax.

The cache has room for as many tokens as whoever runs the graph gives it. So a shape never changes from step to step:
that suits CUDA graphs and devices of fixed shapes, and no graph has an empty tensor or computes a mask from shapes.
Whoever has no use for that gives it little room, and more when it is full.

Checkpoints have Hugging Face's tensor names or openai-whisper's.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.artifacts.folder import read_json
from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.whisper.names import openai_name
from llama_pajamas_run_core.whisper.sizes import Dimensions, alignment_heads
from llama_pajamas_run_onnx.export.checkpoint import Checkpoint
from llama_pajamas_run_onnx.export.graph import INT32, Graph

Array = npt.NDArray[np.float32]

_EPSILON: Final = 1e-5


def write(checkpoint: Checkpoint, folder: Path, precision: str) -> None:
    """Write ``encoder.onnx``, ``decoder.onnx`` and ``config.json``.

    Args:
        checkpoint: of a Whisper model.
        folder: where to.
        precision: "fp32" or "fp16", what weights are stored in.

    Raises:
        LoadError: the checkpoint lacks something.
    """
    sizes = Dimensions.of(checkpoint.config)
    generation = read_json(checkpoint.folder / "generation_config.json")
    pairs = generation.get("alignment_heads") or checkpoint.config.get("alignment_heads")
    heads = alignment_heads(pairs, sizes)
    network = _Network(checkpoint, sizes)
    for name, graph in (("encoder", network.encoder()), ("decoder", network.decoder(heads))):
        if precision == "fp16":
            graph.halve()
        graph.save(folder / f"{name}.onnx", {"model_type": "whisper", "part": name})
    config = {"model_type": "whisper", "dimensions": asdict(sizes), "alignment_heads": heads, "precision": precision}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


class _Network:
    """The network in ONNX's operators."""

    def __init__(self, checkpoint: Checkpoint, sizes: Dimensions) -> None:
        self._checkpoint, self._sizes = checkpoint, sizes
        self._activation = str(checkpoint.config.get("activation_function", "gelu"))

    def encoder(self) -> Graph:
        """From a spectrogram to the keys and values of the decoder's attention to it."""
        sizes, graph = self._sizes, Graph("whisper_encoder")
        x = graph.input("mel", ["batch", sizes.n_mels, "frames"])
        for name, stride in (("encoder.conv1", 1), ("encoder.conv2", 2)):
            weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias").reshape(-1)
            x = graph.activation(graph.conv(x, name, weight, bias, stride=stride, padding=1), self._activation)
        x = graph.node("Transpose", x, perm=[0, 2, 1])
        places = graph.weight("encoder.positions", self._positions("encoder", sizes.n_audio_ctx))
        count = graph.node("Gather", graph.node("Shape", x), graph.shape(1), axis=0)
        x = graph.node("Add", x, graph.node("Slice", places, graph.shape(0), count, graph.shape(0)))
        for index in range(sizes.n_audio_layer):
            x = self._encoder_layer(graph, x, f"encoder.layers.{index}")
        x = self._norm(graph, x, "encoder.layer_norm")
        heads, width = sizes.n_text_head, sizes.n_text_state // sizes.n_text_head
        for index in range(sizes.n_text_layer):
            name = f"decoder.layers.{index}.encoder_attn"
            key = _keys(graph, self._linear(graph, x, f"{name}.k_proj"), heads, width)
            value = graph.heads(self._linear(graph, x, f"{name}.v_proj"), heads, width)
            graph.output(f"cross_key_{index}", key, ["batch", heads, width, "positions"])
            graph.output(f"cross_value_{index}", value, ["batch", heads, "positions", width])
        return graph

    def decoder(self, alignment: tuple[tuple[int, int], ...]) -> Graph:
        """From tokens and what was remembered to the next token."""
        sizes, graph = self._sizes, Graph("whisper_decoder")
        tokens = graph.input("tokens", ["batch", "n"], INT32)
        places = graph.input("positions", ["n"], INT32)
        cache = _Cache(graph, sizes)
        embedding = graph.weight("decoder.embedding", self._tensor("decoder.embed_tokens.weight"))
        table = graph.weight("decoder.positions", self._positions("decoder", sizes.n_text_ctx))
        x = graph.node("Add", graph.node("Gather", embedding, tokens), graph.node("Gather", table, places))
        seen = []
        for index in range(sizes.n_text_layer):
            x, scores = self._decoder_layer(graph, x, index, cache)
            if chosen := [head for layer, head in alignment if layer == index]:
                seen.append(graph.node("Gather", scores, graph.constant(chosen, np.int32), axis=1))
        together = graph.node("Concat", *seen, axis=1) if len(seen) > 1 else seen[0]
        graph.output("scores", together, ["batch", len(alignment), "n", "positions"])
        last = graph.node("Gather", self._norm(graph, x, "decoder.layer_norm"), graph.constant(-1, np.int64), axis=1)
        if not self._checkpoint.config.get("tie_word_embeddings", True) and "proj_out.weight" in self._checkpoint:
            embedding = graph.weight("proj_out", self._checkpoint.tensor("proj_out.weight"))
        graph.output("logits", graph.node("Gemm", last, embedding, transB=1), ["batch", sizes.n_vocab])
        return graph

    def _encoder_layer(self, graph: Graph, x: str, name: str) -> str:
        heads, width = self._sizes.n_audio_head, self._sizes.n_audio_state // self._sizes.n_audio_head
        q, k, v = self._queries_keys_values(graph, x, name, heads, width)
        x = graph.node("Add", x, self._attend(graph, name, graph.node("MatMul", q, k), v))
        return self._mlp(graph, x, name)

    def _decoder_layer(self, graph: Graph, x: str, index: int, cache: "_Cache") -> tuple[str, str]:
        """The layer's output, and the scores of its attention to the audio."""
        name = f"decoder.layers.{index}"
        heads, width = self._sizes.n_text_head, self._sizes.n_text_state // self._sizes.n_text_head
        q, k, v = self._queries_keys_values(graph, x, name, heads, width)
        k, v = cache.extended(index, k, v)
        scores = graph.node("Add", graph.node("MatMul", q, k), cache.mask)
        x = graph.node("Add", x, self._attend(graph, name, scores, v))
        q = self._norm(graph, x, f"{name}.encoder_attn_layer_norm")
        q = graph.heads(self._linear(graph, q, f"{name}.encoder_attn.q_proj", scale=1 / math.sqrt(width)), heads, width)
        scores = graph.node("MatMul", q, graph.input(f"cross_key_{index}", ["batch", heads, width, "positions"]))
        value = graph.input(f"cross_value_{index}", ["batch", heads, "positions", width])
        x = graph.node("Add", x, self._attend(graph, name, scores, value, part="encoder_attn"))
        return self._mlp(graph, x, name), scores

    def _queries_keys_values(self, graph: Graph, x: str, name: str, heads: int, width: int) -> tuple[str, str, str]:
        """Queries and values [batch, heads, n, width], keys [batch, heads, width, n]; one product makes all three."""
        normed = self._norm(graph, x, f"{name}.self_attn_layer_norm")
        parts = [self._weights(f"{name}.self_attn.{part}_proj", 1 / math.sqrt(width) if part == "q" else 1.0)
                 for part in "qkv"]  # fmt: skip
        weight, bias = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        made = graph.linear(normed, f"{name}.self_attn.qkv", weight, bias)
        state = heads * width
        q, k, v = graph.nodes("Split", made, graph.shape(state, state, state), outputs=3, axis=-1)
        return graph.heads(q, heads, width), _keys(graph, k, heads, width), graph.heads(v, heads, width)

    def _attend(self, graph: Graph, name: str, scores: str, values: str, part: str = "self_attn") -> str:
        mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), values)
        apart = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
        state = self._checkpoint_width(name)
        return self._linear(graph, graph.node("Reshape", apart, graph.shape(0, 0, state)), f"{name}.{part}.out_proj")

    def _checkpoint_width(self, name: str) -> int:
        return self._sizes.n_audio_state if name.startswith("encoder") else self._sizes.n_text_state

    def _mlp(self, graph: Graph, x: str, name: str) -> str:
        normed = self._norm(graph, x, f"{name}.final_layer_norm")
        wide = graph.activation(self._linear(graph, normed, f"{name}.fc1"), self._activation)
        return graph.node("Add", x, self._linear(graph, wide, f"{name}.fc2"))

    def _norm(self, graph: Graph, x: str, name: str) -> str:
        return graph.layer_norm(x, name, self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"), _EPSILON)

    def _linear(self, graph: Graph, x: str, name: str, scale: float = 1.0) -> str:
        weight, bias = self._weights(name, scale)
        return graph.linear(x, name, weight, bias if bias.any() else None)

    def _weights(self, name: str, scale: float) -> tuple[Array, Array]:
        """Weight [out, in] and bias [out], which keys have none of."""
        weight = self._tensor(f"{name}.weight")
        bias = np.zeros(len(weight), np.float32) if name.endswith("k_proj") else self._tensor(f"{name}.bias")
        return weight * np.float32(scale), bias * np.float32(scale)

    def _positions(self, part: str, count: int) -> Array:
        table = self._tensor(f"{part}.embed_positions.weight")
        if len(table) < count:
            raise LoadError(f"{self._checkpoint.folder} has {len(table)} positions of the {part}, config.json {count}.")
        return table[:count]

    def _tensor(self, name: str) -> Array:
        """A tensor by Hugging Face's name behind "model."."""
        for known in (f"model.{name}", name, openai_name(name)):
            if known in self._checkpoint:
                return self._checkpoint.tensor(known)
        return self._checkpoint.tensor(f"model.{name}")  # says what is missing


class _Cache:
    """The keys and values of the tokens before, and the places where new ones are written."""

    def __init__(self, graph: Graph, sizes: Dimensions) -> None:
        self._graph, self._sizes = graph, sizes
        self._write = graph.input("write", ["n", "room"])
        self.mask = graph.input("mask", ["n", "room"])
        taken = graph.node("ReduceSum", self._write, graph.shape(0), keepdims=1)
        self._keep = graph.node("Sub", graph.constant(1.0), taken)
        self._write_rows = graph.node("Transpose", self._write, perm=[1, 0])
        self._keep_rows = graph.node("Transpose", self._keep, perm=[1, 0])

    def extended(self, index: int, key: str, value: str) -> tuple[str, str]:
        """The layer's keys [batch, heads, width, room] and values [batch, heads, room, width] with those of new tokens.

        A product with ones and zeros puts each where it belongs: exact in any precision, and known to every device.
        """
        graph, heads = self._graph, self._sizes.n_text_head
        width = self._sizes.n_text_state // heads
        shapes: dict[str, list[Any]] = {
            "key": ["batch", heads, width, "room"],
            "value": ["batch", heads, "room", width],
        }
        old = {name: graph.input(f"{name}_{index}", shape) for name, shape in shapes.items()}
        kept = graph.node("Mul", old["key"], self._keep)
        keys = graph.node("Add", kept, graph.node("MatMul", key, self._write))
        kept = graph.node("Mul", old["value"], self._keep_rows)
        values = graph.node("Add", kept, graph.node("MatMul", self._write_rows, value))
        graph.output(f"new_key_{index}", keys, shapes["key"])
        graph.output(f"new_value_{index}", values, shapes["value"])
        return keys, values


def _keys(graph: Graph, x: str, heads: int, width: int) -> str:
    """From [batch, n, heads * width] to [batch, heads, width, n]."""
    return graph.node("Transpose", graph.node("Reshape", x, graph.shape(0, 0, heads, width)), perm=[0, 2, 3, 1])
