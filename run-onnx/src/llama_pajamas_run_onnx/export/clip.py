"""CLIP as two graphs: one for images, one for texts, whose vectors are comparable.

``vision_model.onnx``
    ``pixel_values`` float32 [batch, 3, height, width], normalized as preprocessor_config.json tells; gives
    ``image_embeds`` [batch, width] of length 1.

``text_model.onnx``
    ``input_ids`` int64 [batch, length], as long as the model's positions, shorter texts filled up behind their end
    token with anything; gives ``text_embeds`` [batch, width] of length 1. The length is fixed, as in training, so that
    no size is free but the batch.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llama_pajamas_run_core.artifacts.vision.graph import section
from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_onnx.export.checkpoint import Checkpoint
from llama_pajamas_run_onnx.export.description import finish
from llama_pajamas_run_onnx.export.graph import INT32, INT64, Graph
from llama_pajamas_run_onnx.export.transformer import Encoder, linear, norm, patches, sides

logger = logging.getLogger(__name__)

_EPSILON = 1e-5
#: Added where a token may not attend; half precision holds it.
_NEVER = -1e4
#: The end token's number in configurations that tell it wrong: there the end is where the highest number stands.
_WRONG_END = 2


def write(checkpoint: Checkpoint, folder: Path, precision: str) -> None:
    """Write ``vision_model.onnx``, ``text_model.onnx`` and the files that describe them.

    Args:
        checkpoint: of CLIPModel or CLIPVisionModelWithProjection; the latter has no texts.
        folder: where to.
        precision: "fp32" or "fp16", what weights are stored in.

    Raises:
        LoadError: the checkpoint lacks something.
        Unsupported: it has no image encoder with a projection.
    """
    if "visual_projection.weight" not in checkpoint:
        raise Unsupported(
            f"{checkpoint.folder} has no image encoder with a projection ({checkpoint.architecture}).",
            hint="CLIPModel and CLIPVisionModelWithProjection are exported.",
        )
    graphs = {"vision_model": _image(checkpoint)}
    if "text_projection.weight" in checkpoint:
        graphs["text_model"] = _text(checkpoint)
        if not (checkpoint.folder / "tokenizer.json").is_file():
            logger.warning("checkpoint=%s has no tokenizer.json, which texts need", checkpoint.folder)
    finish(checkpoint, folder, graphs, precision)


def _image(checkpoint: Checkpoint) -> Graph:
    config = section(checkpoint.config, "vision_config") or checkpoint.config
    size = sides(config.get("image_size", 224))
    graph = Graph("clip_image")
    x = graph.input("pixel_values", ["batch", 3, *size])
    place = "vision_model.embeddings"
    x = patches(
        graph,
        x,
        f"{place}.patch_embedding",
        (checkpoint.tensor(f"{place}.patch_embedding.weight"), None),
        [checkpoint.tensor(f"{place}.class_embedding")],
        checkpoint.tensor(f"{place}.position_embedding.weight"),
        size,
    )
    epsilon = float(config.get("layer_norm_eps", _EPSILON))
    x = norm(graph, checkpoint, x, "vision_model.pre_layrnorm", epsilon)
    x = _encoder("vision_model", config, 12).write(graph, checkpoint, x)
    x = graph.node("Gather", x, graph.constant(0, "int32"), axis=1)
    x = norm(graph, checkpoint, x, "vision_model.post_layernorm", epsilon)
    _project(graph, checkpoint, x, "visual_projection", "image_embeds")
    return graph


def _text(checkpoint: Checkpoint) -> Graph:
    config = section(checkpoint.config, "text_config") or checkpoint.config
    positions = checkpoint.tensor("text_model.embeddings.position_embedding.weight")
    length = len(positions)
    graph = Graph("clip_text")
    ids = graph.node("Cast", graph.input("input_ids", ["batch", length], INT64), to=INT32)
    table = graph.weight(
        "text_model.embeddings.token_embedding.weight",
        checkpoint.tensor("text_model.embeddings.token_embedding.weight"),
    )
    x = graph.node("Gather", table, ids, axis=0)
    x = graph.node("Add", x, graph.weight("text_model.embeddings.position_embedding.weight", positions[None]))
    mask = graph.weight("text_model.mask", np.triu(np.full((1, 1, length, length), _NEVER, np.float32), 1))
    x = _encoder("text_model", config, 8).write(graph, checkpoint, x, mask)
    x = norm(graph, checkpoint, x, "text_model.final_layer_norm", float(config.get("layer_norm_eps", _EPSILON)))
    # The vector at the end token, picked by a product with a row that is 1 there: in every converter's reach.
    end = graph.node("Unsqueeze", _end(graph, ids, int(config.get("eos_token_id", 49407))), graph.shape(2))
    places = graph.constant(np.arange(length).reshape(1, 1, length), "int32")
    row = graph.node("Cast", graph.node("Equal", end, places), to=1)
    x = graph.node("Squeeze", graph.node("MatMul", row, x), graph.shape(1))
    _project(graph, checkpoint, x, "text_projection", "text_embeds")
    return graph


def _end(graph: Graph, ids: str, number: int) -> str:
    """The place of each text's first end token, int32 [n, 1]."""
    found = ids
    if number != _WRONG_END:
        found = graph.node("Cast", graph.node("Equal", ids, graph.constant(number, "int32")), to=INT32)
    return graph.node("Cast", graph.node("ArgMax", found, axis=1, keepdims=1), to=INT32)


def _encoder(tower: str, config: Mapping[str, Any], heads: int) -> Encoder:
    return Encoder(
        layer=f"{tower}.encoder.layers.{{}}",
        norms=("layer_norm1", "layer_norm2"),
        attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"),
        feed_forward=("mlp.fc1", "mlp.fc2"),
        heads=int(config.get("num_attention_heads", heads)),
        activation=str(config.get("hidden_act", "quick_gelu")),
        epsilon=float(config.get("layer_norm_eps", _EPSILON)),
    )


def _project(graph: Graph, checkpoint: Checkpoint, x: str, name: str, output: str) -> None:
    width = len(checkpoint.tensor(f"{name}.weight"))
    graph.output(output, graph.unit(linear(graph, checkpoint, x, name)), ["batch", width])
