"""Tiny vision checkpoints of random weights, as transformers writes them: config.json, safetensors and the rest.

    python tests/support/tiny_vision.py RECORD.json      # in a Python with PyTorch and transformers

writes what transformers answers to a fixed input for each of them, for the tests to compare the exports with.
"""

import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, LAYERS, HEADS, INNER, SIZE, PATCH, CLASSES = 16, 2, 2, 24, 32, 8, 3
VOCABULARY, LENGTH, PROJECTION = 20, 8, 4
#: The end token of the texts; the padding behind it is the same.
END = 7
LABELS = ("red", "green", "blue")

_TRANSFORMER = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "image_size": SIZE,
    "patch_size": PATCH,
}
_NAMES = {"id2label": {str(i): name for i, name in enumerate(LABELS)}, "label2id": {n: i for i, n in enumerate(LABELS)}}
_TOWERS = {
    "projection_dim": PROJECTION,
    "vision_config": {**_TRANSFORMER, "projection_dim": PROJECTION, "hidden_act": "quick_gelu"},
    "text_config": {
        **{
            key: _TRANSFORMER[key]
            for key in _TRANSFORMER
            if "size" not in key or key.endswith(("hidden_size", "ate_size"))
        },
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LENGTH,
        "projection_dim": PROJECTION,
        "eos_token_id": END,
    },
}
_RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 1], "layer_type": "bottleneck"}
#: config.json by the name of a checkpoint.
CONFIGS = {
    "vit": {"model_type": "vit", "architectures": ["ViTForImageClassification"], **_TRANSFORMER, **_NAMES},
    "vit-encoder": {"model_type": "vit", "architectures": ["ViTModel"], **_TRANSFORMER, "hidden_act": "gelu_new"},
    "deit": {"model_type": "deit", "architectures": ["DeiTForImageClassification"], **_TRANSFORMER, **_NAMES},
    "deit-teacher": {
        "model_type": "deit", "architectures": ["DeiTForImageClassificationWithTeacher"], **_TRANSFORMER, **_NAMES,
    },
    "resnet": {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], **_RESNET, **_NAMES},
    "resnet-early": {
        "model_type": "resnet", "architectures": ["ResNetForImageClassification"], **_RESNET, **_NAMES,
        "downsample_in_bottleneck": True,
    },
    "resnet-basic": {
        "model_type": "resnet", "architectures": ["ResNetModel"], **_RESNET, "layer_type": "basic",
        "hidden_act": "gelu", "downsample_in_first_stage": True,
    },
    "clip": {"model_type": "clip", "architectures": ["CLIPModel"], **_TOWERS},
    "clip-wrong-end": {
        "model_type": "clip", "architectures": ["CLIPModel"], **_TOWERS,
        "text_config": {**_TOWERS["text_config"], "eos_token_id": 2},
    },
    "clip-vision": {
        "model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"],
        **_TOWERS["vision_config"],
    },
}  # fmt: skip
_MEAN, _STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def pixels() -> np.ndarray:
    """The fixed images, float32 [3, 3, SIZE, SIZE]."""
    return np.random.default_rng(1).standard_normal((3, 3, SIZE, SIZE), np.float32)


def texts() -> np.ndarray:
    """The fixed texts, int64 [3, LENGTH]: with padding, with a higher number than the end's, and with a late end."""
    return np.array([[1, 5, 7, 7, 7, 7, 7, 7], [3, 4, 5, 6, 9, 19, 7, 0], [1, 1, 1, 1, 1, 1, 1, 7]], np.int64)


def make(name: str, folder: Path) -> Path:
    """Write a checkpoint.

    Args:
        name: one of :data:`CONFIGS`.
        folder: to write it into, made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[name]
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tensors = {}
    for tensor, shape in _shapes(config):
        # Convolutions keep the range of what goes through them.
        scale = 1.2 / np.prod(shape[1:]) ** 0.5 if len(shape) == 4 else 0.3 if len(shape) > 1 else 0.2
        values = rng.standard_normal(shape) * scale
        if tensor.endswith(("norm.weight", "normalization.weight")) or "layernorm" in tensor and "weight" in tensor:
            values += 1
        if tensor.endswith("running_var"):
            values = np.abs(values) + 0.5
        tensors[tensor] = np.asarray(values, np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    prepare = {"do_normalize": True, "image_mean": _MEAN, "image_std": _STD, "size": {"height": SIZE, "width": SIZE}}
    if name.startswith("resnet"):
        prepare |= {"size": {"shortest_edge": SIZE}, "crop_pct": 0.875}
    if name.startswith("clip"):
        prepare |= {"size": {"shortest_edge": 40}, "crop_size": {"height": SIZE, "width": SIZE}, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepare))
    return folder


def _shapes(config: dict) -> Iterator[tuple[str, tuple[int, ...]]]:
    kind = config["model_type"]
    if kind == "resnet":
        return _resnet(config)
    if kind.startswith("clip"):
        return _clip(texts=kind == "clip")
    return _vit(config)


def _linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int = WIDTH) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _vit(config: dict) -> Iterator[tuple[str, tuple[int, ...]]]:
    architecture, kind = config["architectures"][0], config["model_type"]
    prefix = "" if architecture.endswith("Model") else f"{kind}."
    tokens = ["cls_token"] + ["distillation_token"] * (kind == "deit")
    for token in tokens:
        yield f"{prefix}embeddings.{token}", (1, 1, WIDTH)
    yield f"{prefix}embeddings.position_embeddings", (1, (SIZE // PATCH) ** 2 + len(tokens), WIDTH)
    yield f"{prefix}embeddings.patch_embeddings.projection.weight", (WIDTH, 3, PATCH, PATCH)
    yield f"{prefix}embeddings.patch_embeddings.projection.bias", (WIDTH,)
    for index in range(LAYERS):
        layer = f"{prefix}encoder.layer.{index}"
        for part in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            yield from _linear(f"{layer}.{part}", WIDTH, WIDTH)
        yield from _linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        yield from _linear(f"{layer}.intermediate.dense", INNER, WIDTH)
        yield from _linear(f"{layer}.output.dense", WIDTH, INNER)
        yield from _norm(f"{layer}.layernorm_before")
        yield from _norm(f"{layer}.layernorm_after")
    yield from _norm(f"{prefix}layernorm")
    if architecture.endswith("WithTeacher"):
        yield from _linear("cls_classifier", CLASSES, WIDTH)
        yield from _linear("distillation_classifier", CLASSES, WIDTH)
    elif prefix:
        yield from _linear("classifier", CLASSES, WIDTH)
    else:
        yield from _linear("pooler.dense", WIDTH, WIDTH)


def _resnet(config: dict) -> Iterator[tuple[str, tuple[int, ...]]]:
    prefix = "" if config["architectures"][0].endswith("Model") else "resnet."

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.convolution.weight", (outputs, inputs, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.normalization.{part}", (outputs,)

    yield from conv(f"{prefix}embedder.embedder", 8, 3, 7)
    inputs = 8
    for stage, (width, depth) in enumerate(zip(config["hidden_sizes"], config["depths"], strict=True)):
        for index in range(depth):
            layer = f"{prefix}encoder.stages.{stage}.layers.{index}"
            if config["layer_type"] == "basic":
                kernels, sizes = (3, 3), (inputs, width, width)
            else:
                kernels, sizes = (1, 3, 1), (inputs, width // 4, width // 4, width)
            for part, kernel in enumerate(kernels):
                yield from conv(f"{layer}.layer.{part}", sizes[part + 1], sizes[part], kernel)
            if not index:
                yield from conv(f"{layer}.shortcut", width, inputs, 1)
            inputs = width
    if prefix:
        yield from _linear("classifier.1", CLASSES, inputs)


def _clip(*, texts: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "vision_model.embeddings.class_embedding", (WIDTH,)
    yield "vision_model.embeddings.patch_embedding.weight", (WIDTH, 3, PATCH, PATCH)
    yield "vision_model.embeddings.position_embedding.weight", ((SIZE // PATCH) ** 2 + 1, WIDTH)
    yield from _norm("vision_model.pre_layrnorm")
    yield from _norm("vision_model.post_layernorm")
    yield from _tower("vision_model")
    yield "visual_projection.weight", (PROJECTION, WIDTH)
    if texts:
        yield "text_model.embeddings.token_embedding.weight", (VOCABULARY, WIDTH)
        yield "text_model.embeddings.position_embedding.weight", (LENGTH, WIDTH)
        yield from _norm("text_model.final_layer_norm")
        yield from _tower("text_model")
        yield "text_projection.weight", (PROJECTION, WIDTH)
        yield "logit_scale", ()


def _tower(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for index in range(LAYERS):
        layer = f"{name}.encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{part}", WIDTH, WIDTH)
        yield from _linear(f"{layer}.mlp.fc1", INNER, WIDTH)
        yield from _linear(f"{layer}.mlp.fc2", WIDTH, INNER)
        yield from _norm(f"{layer}.layer_norm1")
        yield from _norm(f"{layer}.layer_norm2")


def record(path: Path) -> None:
    """Write what transformers answers; needs PyTorch."""
    import tempfile

    import torch
    import transformers

    found = {}
    images, ids = torch.from_numpy(pixels()), torch.from_numpy(texts())
    with tempfile.TemporaryDirectory() as part:
        for name, config in CONFIGS.items():
            kind = getattr(transformers, config["architectures"][0])
            model, told = kind.from_pretrained(make(name, Path(part) / name), output_loading_info=True)
            missing = [key for key in told["missing_keys"] if "num_batches_tracked" not in key]
            if missing or told["unexpected_keys"]:
                raise ValueError(f"{name}: {missing} missing, {told['unexpected_keys']} unexpected")
            with torch.no_grad():
                made = model.eval()(pixel_values=images, **({"input_ids": ids} if hasattr(model, "text_model") else {}))
            wanted = ("logits", "pooler_output", "last_hidden_state", "image_embeds", "text_embeds")
            if not name.startswith("vit"):
                wanted = tuple(key for key in wanted if key != "last_hidden_state")
            values = {key: made[key].squeeze() for key in wanted if made.get(key) is not None}
            for key in ("image_embeds", "text_embeds"):
                if key in values:
                    values[key] = torch.nn.functional.normalize(values[key], dim=-1)
            found[name] = {
                key: [float(f"{one:.7g}") for one in value.flatten().tolist()] for key, value in values.items()
            }
    path.write_text(json.dumps({"transformers": transformers.__version__, "outputs": found}) + "\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
