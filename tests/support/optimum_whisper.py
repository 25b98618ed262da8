"""Whisper graphs in the layout of Hugging Face's optimum, made by hand, of models that recite.

No layer is needed for that: the state at a position is its embedding and the token's. But the graphs take and give all
that optimum's do, and the next position is read from the cache's length: a cache that is not passed on is heard.
"""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from support import onnx_graphs, tiny_whisper
from support.whisper_checkpoint import recital, sizes

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def write(folder: Path, *, merged: bool, attends: bool = False, where: str = ".", ending: str = "", **options) -> Path:
    """Write the graphs and Hugging Face's config.json."""
    vocabulary, embedding, positions = recital(**options)
    graphs = folder / where
    graphs.mkdir(parents=True, exist_ok=True)
    _encoder(graphs / f"encoder_model{ending}.onnx")
    for name, past in (
        (("decoder_model_merged", True),)
        if merged
        else (
            ("decoder_model", False),
            ("decoder_with_past_model", True),
        )
    ):
        _decoder(graphs / f"{name}{ending}.onnx", embedding, positions, past=past, merged=merged, attends=attends)
    ours = sizes(vocabulary)
    config = {
        "model_type": "whisper", "num_mel_bins": 80, "max_source_positions": 1500, "d_model": tiny_whisper.WIDTH,
        "encoder_attention_heads": 1, "encoder_layers": 1, "vocab_size": ours["n_vocab"], "max_target_positions": 448,
        "decoder_attention_heads": 1, "decoder_layers": tiny_whisper.LAYERS,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"alignment_heads": [[2, 0]]}))
    return folder


def _encoder(path: Path) -> None:
    """Every second frame's mean, in all directions."""
    nodes = [
        helper.make_node("ReduceMean", ["input_features"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Slice", ["mean", "zero", "end", "one", "two"], ["half"]),
        helper.make_node("Unsqueeze", ["half", "last"], ["column"]),
        helper.make_node("Mul", ["column", "ones"], ["last_hidden_state"]),
    ]
    constants = {
        "zero": np.array([0]), "end": np.array([9999]), "one": np.array([1]), "two": np.array([2]),
        "last": np.array([2]), "ones": np.ones(tiny_whisper.WIDTH, np.float32),
    }  # fmt: skip
    onnx_graphs.save(
        path, nodes, {"input_features": (FLOAT, ["batch", 80, 3000])},
        {"last_hidden_state": ["batch", 1500, tiny_whisper.WIDTH]}, constants,
    )  # fmt: skip


def _decoder(path: Path, embedding, positions, *, past: bool, merged: bool, attends: bool) -> None:
    width, layers = tiny_whisper.WIDTH, range(tiny_whisper.LAYERS)
    parts = [
        f"{layer}.{side}.{part}" for layer in layers for side in ("decoder", "encoder") for part in ("key", "value")
    ]
    inputs = {"input_ids": (INT64, ["batch", 1 if past and not merged else "n"])}
    if merged or not past:
        inputs["encoder_hidden_states"] = (FLOAT, ["batch", "positions", width])
    if past:
        inputs |= {f"past_key_values.{name}": (FLOAT, ["batch", 1, f"past_{name[2:9]}", width]) for name in parts}
    if merged:
        inputs["use_cache_branch"] = (BOOL, [1])
    constants = {
        "embedding": embedding, "positions": positions, "transposed": np.ascontiguousarray(embedding.T),
        "scale": np.ones(width, np.float32), "shift": np.zeros(width, np.float32), "one": np.array(1),
        "zero": np.array(0), "two": np.array(2), "heads": np.array([1]), "none": np.array([0]),
        "kept": np.zeros((1, 1, 1, width), np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Shape", ["input_ids"], ["ids_shape"]),
        node("Gather", ["ids_shape", "one"], ["count"]),
        node("Gather", ["ids_shape", "none"], ["batch"]),
    ]
    if past:
        nodes += [
            node("Shape", ["past_key_values.0.decoder.key"], ["past_shape"]),
            node("Gather", ["past_shape", "two"], ["length"]),
        ]
        if merged:  # without the switch, what is given as past is not looked at
            nodes += [
                node("Cast", ["use_cache_branch"], ["switch"], to=INT64),
                node("Squeeze", ["switch"], ["on"]),
                node("Mul", ["length", "on"], ["before"]),
            ]
        else:
            nodes.append(node("Identity", ["length"], ["before"]))
    else:
        nodes.append(node("Identity", ["zero"], ["before"]))
    nodes += [
        node("Add", ["before", "count"], ["after"]),
        node("Range", ["before", "after", "one"], ["places"]),
        node("Gather", ["embedding", "input_ids"], ["said"]),
        node("Gather", ["positions", "places"], ["where"]),
        node("Add", ["said", "where"], ["state"]),
        node("LayerNormalization", ["state", "scale", "shift"], ["normed"], axis=-1),
        node("MatMul", ["normed", "transposed"], ["logits"]),
        node("Unsqueeze", ["after", "none"], ["rows"]),
        node("Concat", ["batch", "heads", "rows", "heads"], ["own_shape"], axis=0),
        node("Expand", ["kept", "own_shape"], ["own"]),
    ]
    outputs = {"logits": ["batch", "n", len(embedding)]}
    for name in parts:
        if "decoder" in name:
            nodes.append(node("Identity", ["own"], [f"present.{name}"]))
        elif merged or not past:
            nodes.append(node("Unsqueeze", ["encoder_hidden_states", "heads"], [f"present.{name}"]))
        else:
            continue
        outputs[f"present.{name}"] = ["batch", 1, "length", width]
    if attends and (merged or not past):
        # Each token attends to ten positions, behind those of the token before.
        table = np.full((448, 1500), 1e-6, np.float32)
        for place in range(150):
            table[place, 10 * place : 10 * place + 10] = 0.1
        constants |= {"attention": table}
        nodes += [
            node("Gather", ["attention", "places"], ["attended"]),
            node("Concat", ["batch", "heads", "heads", "heads"], ["once"], axis=0),
            node("Expand", ["attended", "once"], ["shown"]),
        ]
        for layer in layers:
            nodes.append(node("Identity", ["shown"], [f"cross_attentions.{layer}"]))
            outputs[f"cross_attentions.{layer}"] = ["batch", 1, "n", "positions"]
    onnx_graphs.save(path, nodes, inputs, outputs, constants)
