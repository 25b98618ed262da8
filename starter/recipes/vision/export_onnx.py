"""Writes the shipped form of the three models from a training run's vision.pt.

    python starter/recipes/vision/export_onnx.py RUN_DIR [--out starter/src/llama_pajamas_starter/models]

Each model folder gets one float16 ``model.safetensors`` and ONNX graphs (opset 17, dynamic batch) that hold no weights:
their initializers are ONNX external data, at the offsets that the tensors have inside the safetensors file, followed by
a Cast to float32 that a runtime folds when it loads.
"""

import argparse
import copy
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.numpy import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from networks import STRIDES, Detector, Embedder
from train import build
from words import LENGTH, PAD, SPECIAL, make_tokenizer, words

from llama_pajamas_starter.vocabulary import OBJECTS

logger = logging.getLogger("vision")

OPSET = 17
WEIGHTS = "model.safetensors"
MODELS = Path(__file__).resolve().parents[2] / "src" / "llama_pajamas_starter" / "models"


def _graph(network: nn.Module, example: Tensor, inputs: str, outputs: str) -> onnx.ModelProto:
    """The network as an ONNX model whose initializers keep the names of the parameters."""
    network = copy.deepcopy(network)
    for values in network.parameters():
        # The exporter merges parameters of equal value, and the values are taken from the checkpoint anyway.
        values.data = torch.randn_like(values)
    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (example,),
        buffer,
        dynamo=False,
        opset_version=OPSET,
        do_constant_folding=False,
        input_names=[inputs],
        output_names=[outputs],
        dynamic_axes={inputs: {0: "batch"}, outputs: {0: "batch"}},
    )
    model = onnx.load_from_string(buffer.getvalue())
    with torch.inference_mode():
        _tidy(model, tuple(network(example).shape))
    return model


def _offsets(path: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor lies in a safetensors file: byte offset from its start, and length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    base = 8 + length
    return {
        name: (base + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _refer(model: onnx.ModelProto, prefix: str, tensors: dict[str, NDArray[Any]], path: Path) -> None:
    """Replaces the initializers that are parameters by references into the safetensors file and a Cast."""
    places = _offsets(path)
    graph = model.graph
    kept, casts = [], []
    for initializer in graph.initializer:
        name = prefix + initializer.name
        if name not in tensors:
            kept.append(initializer)
            continue
        half = TensorProto(name=f"{initializer.name}.float16", data_type=TensorProto.FLOAT16, dims=initializer.dims)
        if tuple(initializer.dims) != tensors[name].shape:
            raise ValueError(
                f"{name}: the graph has shape {tuple(initializer.dims)}, the checkpoint {tensors[name].shape}"
            )
        half.data_location = TensorProto.EXTERNAL
        offset, length = places[name]
        for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
            half.external_data.add(key=key, value=value)
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [initializer.name], to=TensorProto.FLOAT))
    missing = {name for name in tensors if name.startswith(prefix)} - {prefix + cast.output[0] for cast in casts}
    if missing:
        raise ValueError(f"the graph does not use {sorted(missing)}")
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def _tidy(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """Makes the graph small: constants once, short names, no source positions; and tells the output's ``shape``."""
    model.producer_name, model.producer_version = "llama-pajamas", ""
    graph = model.graph
    del graph.value_info[:]
    names = {value.name: value.name for value in (*graph.input, *graph.output, *graph.initializer)} | {"": ""}
    shared: dict[bytes, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            value = node.attribute[0].t
            value.name = ""
            key = value.SerializeToString()
            if key not in shared:
                shared[key] = f"c{len(shared)}"
                value.name = shared[key]
                graph.initializer.append(value)
            names[node.output[0]] = shared[key]
        else:
            nodes.append(node)
    for number, node in enumerate(nodes):
        node.name, node.doc_string = f"{node.op_type}{number}", ""
        del node.metadata_props[:]
        for place, output in enumerate(node.output):
            names.setdefault(output, f"t{number}" + (f".{place}" if place else ""))
    for node in nodes:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    del graph.node[:]
    graph.node.extend(nodes)
    for dimension, size in zip(graph.output[0].type.tensor_type.shape.dim[1:], shape[1:], strict=True):
        dimension.dim_value = size


def _metadata(model: onnx.ModelProto, values: dict[str, Any]) -> None:
    """Facts under the keys that Ultralytics' exporter writes, so that its readers understand them."""
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else repr(value))


def _write(
    folder: Path, tensors: dict[str, Tensor], graphs: dict[str, tuple[onnx.ModelProto, str]], config: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: values.detach().numpy().astype(np.float16) for name, values in tensors.items()}
    weights = folder / WEIGHTS
    save_file(halves, weights, {"format": "pt", "license": "Apache-2.0"})
    for name, (model, prefix) in graphs.items():
        _refer(model, prefix, halves, weights)
        onnx.save_model(model, folder / name)
        onnx.checker.check_model(str(folder / name), full_check=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    logger.info("%s: %s bytes %s", folder.name, sum(sizes.values()), sizes)


def _input(size: int, resize: str, mean: float, std: float) -> dict[str, Any]:
    return {
        "width": size,
        "height": size,
        "resize": resize,
        "mean": [mean] * 3,
        "std": [std] * 3,
        "layout": "NCHW",
        "color": "RGB",
    }


def rounded(model: nn.Module) -> nn.Module:
    """The model with its parameters rounded to float16, as they are shipped."""
    for values in model.parameters():
        values.data = values.data.half().float()
    return model


def load(state: dict[str, Any], name: str) -> nn.Module:
    """One of the networks from a run, ready to be exported: norms folded in, parameters rounded."""
    model = build()[name]
    model.load_state_dict(state["models"][name])
    model.eval()
    if isinstance(model, Detector):
        model.fuse()
    return rounded(model).requires_grad_(False)


def export(state: dict[str, Any], out: Path) -> None:
    """Writes every model that the run holds under ``out``."""
    labels = list(OBJECTS)
    if "detect" in state["models"]:
        detector = load(state, "detect")
        size = int(detector.size)  # type: ignore[arg-type]
        graph = _graph(detector, torch.rand(2, 3, size, size), "images", "output0")
        names = dict(enumerate(labels))
        facts = {
            "task": "detect",
            "names": names,
            "imgsz": [size, size],
            "stride": max(STRIDES),
            "batch": 1,
            "license": "Apache-2.0",
        }
        _metadata(graph, {"description": "llama-pajamas starter detector", **facts})
        config = {
            "task": "detection",
            "architecture": "yolov8",
            "head": "yolov8",
            "input": _input(size, "letterbox", 0.0, 1.0),
            "labels": labels,
            "graphs": {"image": "model.onnx"},
        }
        _write(out / "detect", dict(detector.named_parameters()), {"model.onnx": (graph, "")}, config)
    if "classify" in state["models"]:
        classifier = load(state, "classify")
        graph = _graph(classifier, torch.rand(2, 3, 96, 96), "images", "logits")
        _metadata(
            graph, {"task": "classify", "names": dict(enumerate(labels)), "imgsz": [96, 96], "license": "Apache-2.0"}
        )
        config = {
            "task": "classification",
            "architecture": "vit",
            "head": "logits",
            "input": _input(96, "center-crop", 0.5, 0.5),
            "labels": labels,
            "graphs": {"image": "model.onnx"},
        }
        _write(out / "classify", dict(classifier.named_parameters()), {"model.onnx": (graph, "")}, config)
    if "embed" in state["models"]:
        embedder = load(state, "embed")
        assert isinstance(embedder, Embedder)
        image = _graph(embedder.image, torch.rand(2, 3, 96, 96), "pixel_values", "image_embeds")
        ids = torch.zeros(2, LENGTH, dtype=torch.long)
        text = _graph(embedder.text, ids, "input_ids", "text_embeds")
        for graph in (image, text):
            _metadata(graph, {"task": "embed", "license": "Apache-2.0"})
        width = int(embedder.image.encoder.head.out_features)  # type: ignore[union-attr, arg-type]
        config = {
            "task": "embedding",
            "architecture": "clip",
            "head": "embedding",
            "input": _input(96, "stretch", 0.5, 0.5),
            "text": {"length": LENGTH, "pad_id": PAD, "tokenizer": "tokenizer.json"},
            "dimensions": width,
            "normalized": True,
            "graphs": {"image": "image.onnx", "text": "text.onnx"},
        }
        tensors = {name: values for name, values in embedder.named_parameters() if name != "temperature"}
        (out / "embed").mkdir(parents=True, exist_ok=True)
        make_tokenizer().save(str(out / "embed" / "tokenizer.json"), pretty=False)
        graphs = {"image.onnx": (image, "image."), "text.onnx": (text, "text.")}
        _write(out / "embed", tensors, graphs, config)


def _networks(state: dict[str, Any]) -> dict[str, nn.Module]:
    """The network behind each graph."""
    models = {name: load(state, name) for name in state["models"]}
    networks = {f"{name}/model.onnx": model for name, model in models.items() if name != "embed"}
    if isinstance(embedder := models.get("embed"), Embedder):
        networks |= {"embed/image.onnx": embedder.image, "embed/text.onnx": embedder.text}
    return networks


def _example(path: str, seed: int) -> NDArray[Any]:
    """An input that NumPy makes the same everywhere."""
    rng = np.random.default_rng(seed)
    if path.endswith("text.onnx"):
        return rng.integers(4, len(SPECIAL) + len(words()), (2, LENGTH))
    size = 320 if path.startswith("detect") else 96
    return rng.random((2, 3, size, size), dtype=np.float32)


def record(state: dict[str, Any], path: Path) -> None:
    """Writes what PyTorch answers to fixed inputs, for the tests to compare every runtime with."""
    recorded: dict[str, Any] = {}
    for seed, (name, network) in enumerate(_networks(state).items()):
        with torch.inference_mode():
            output = network(torch.from_numpy(_example(name, seed))).numpy()
        flat = output.reshape(-1)
        step = max(1, len(flat) // 40)
        values = [float(f"{value:.6g}") for value in flat[::step]]
        recorded[name] = {"seed": seed, "shape": list(output.shape), "step": step, "values": values}
        if name.endswith("text.onnx"):
            recorded[name]["tokens"] = len(SPECIAL) + len(words())
    path.write_text(json.dumps(recorded) + "\n", encoding="utf-8")


def verify(state: dict[str, Any], out: Path) -> None:
    """Compares ONNX Runtime with PyTorch.

    Raises:
        AssertionError: they differ by more than rounding.
    """
    import onnxruntime

    for seed, (name, network) in enumerate(_networks(state).items()):
        values = _example(name, seed)
        session = onnxruntime.InferenceSession(out / name, providers=["CPUExecutionProvider"])
        (mine,) = session.run(None, {session.get_inputs()[0].name: values})
        with torch.inference_mode():
            theirs = network(torch.from_numpy(values)).numpy()
        logger.info("%s: %s, largest difference %.2e", name, theirs.shape, np.abs(mine - theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=2e-3 if name.startswith("detect") else 1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder with vision.pt")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder of the shipped models")
    parser.add_argument("--record", type=Path, help="also write PyTorch's answers to fixed inputs to this JSON file")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    state = torch.load(options.run / "vision.pt", weights_only=True)
    export(state, options.out)
    verify(state, options.out)
    if options.record:
        record(state, options.record)


if __name__ == "__main__":
    main()
