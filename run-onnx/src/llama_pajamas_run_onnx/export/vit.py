"""Vision transformers (ViT, DeiT) as ONNX: classifiers and image encoders.

``model.onnx``
    ``pixel_values`` float32 [batch, 3, height, width], normalized as preprocessor_config.json tells. A classifier gives
    ``logits`` [batch, classes]; an encoder ``last_hidden_state`` [batch, places, width] and, where the checkpoint has a
    pooler, ``pooler_output`` [batch, width].
"""

from pathlib import Path

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_onnx.export.checkpoint import Checkpoint
from llama_pajamas_run_onnx.export.description import finish
from llama_pajamas_run_onnx.export.graph import Graph
from llama_pajamas_run_onnx.export.transformer import Encoder, linear, norm, patches, sides

_EPSILON = 1e-12


def write(checkpoint: Checkpoint, folder: Path, precision: str) -> None:
    """Write ``model.onnx`` and the files that describe it.

    Args:
        checkpoint: of ViTModel, ViTForImageClassification, or the same of DeiT (with its teacher, too).
        folder: where to.
        precision: "fp32" or "fp16", what weights are stored in.

    Raises:
        LoadError: the checkpoint lacks something.
        Unsupported: it is for another task.
    """
    config = checkpoint.config
    if any(word in checkpoint.architecture for word in ("Masked", "Segmentation", "Detection")):
        raise Unsupported(f"A {checkpoint.architecture} is not exported.", hint="Classifiers and encoders are.")
    prefix = next((name for name in ("vit.", "deit.") if f"{name}embeddings.cls_token" in checkpoint), "")
    size = sides(config.get("image_size", 224))
    graph = Graph(str(config.get("model_type", "vit")))
    x = graph.input("pixel_values", ["batch", 3, *size])
    place = f"{prefix}embeddings"
    tokens = [
        checkpoint.tensor(f"{place}.{name}").reshape(-1)
        for name in ("cls_token", "distillation_token")
        if f"{place}.{name}" in checkpoint
    ]
    name = f"{place}.patch_embeddings.projection"
    kernel = checkpoint.tensor(f"{name}.weight"), checkpoint.optional(f"{name}.bias")
    positions = checkpoint.tensor(f"{place}.position_embeddings")[0]
    x = patches(graph, x, name, kernel, tokens, positions, size)
    epsilon = float(config.get("layer_norm_eps", _EPSILON))
    encoder = Encoder(
        layer=f"{prefix}encoder.layer.{{}}",
        norms=("layernorm_before", "layernorm_after"),
        attention=(
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
            "attention.output.dense",
        ),
        feed_forward=("intermediate.dense", "output.dense"),
        heads=int(config.get("num_attention_heads", 12)),
        activation=str(config.get("hidden_act", "gelu")),
        epsilon=epsilon,
    )
    x = norm(graph, checkpoint, encoder.write(graph, checkpoint, x), f"{prefix}layernorm", epsilon)
    _head(graph, checkpoint, x, prefix, positions.shape)
    finish(checkpoint, folder, {"model": graph}, precision)


def _head(graph: Graph, checkpoint: Checkpoint, x: str, prefix: str, shape: tuple[int, ...]) -> None:
    """The outputs, from the normalized last layer [n, places, width]."""

    def token(place: int) -> str:
        return graph.node("Gather", x, graph.constant(place, "int32"), axis=1)

    def logits(name: str, place: int) -> str:
        return linear(graph, checkpoint, token(place), name)

    if "classifier.weight" in checkpoint:
        classes = len(checkpoint.tensor("classifier.weight"))
        graph.output("logits", logits("classifier", 0), ["batch", classes])
    elif "cls_classifier.weight" in checkpoint:  # DeiT with its teacher: the mean of what both tokens say
        classes = len(checkpoint.tensor("cls_classifier.weight"))
        both = graph.node("Add", logits("cls_classifier", 0), logits("distillation_classifier", 1))
        graph.output("logits", graph.node("Mul", both, graph.constant(0.5)), ["batch", classes])
    else:
        graph.output("last_hidden_state", x, ["batch", *shape])
        name = f"{prefix}pooler.dense"
        if f"{name}.weight" in checkpoint:
            width = len(checkpoint.tensor(f"{name}.weight"))
            kind = str(checkpoint.config.get("pooler_act", "tanh"))
            pooled = graph.activation(linear(graph, checkpoint, token(0), name), kind)
            graph.output("pooler_output", pooled, ["batch", width])
