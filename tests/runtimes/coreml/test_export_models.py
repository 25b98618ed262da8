"""Models become packages that give what the models give, and say what they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from support.onnx_graphs import WORD_VECTORS, colour_meter, detector, word_meter, word_tokenizer
from support.onnx_voices import piper

from llama_pajamas_run_core.artifacts.formats import identify, size_of
from llama_pajamas_run_core.artifacts.vision.spec import Options
from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_coreml.description import TextDescription, VisionDescription, from_metadata
from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator
from llama_pajamas_run_coreml.export import ExportOptions, export
from llama_pajamas_run_coreml.export.options import parse_batches
from llama_pajamas_run_coreml.interface import read_model
from llama_pajamas_starter.catalogue import MODELS

QUICK = ExportOptions(measure=False)


def described(package: Path) -> Any:
    return from_metadata(read_model(package).metadata, str(package))


def answers(graph: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    first: np.ndarray = session.run(None, feeds)[0]
    return first


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_detector(exported):
    (one,) = exported("detect")
    about = described(one.path)
    pixels = np.random.default_rng(0).random((2, 3, 320, 320), dtype=np.float32)

    given = Evaluator(one.path).predict({about.input: pixels})[about.outputs[0]]

    assert identify(one.path).name == "coreml"
    assert isinstance(about, VisionDescription)
    assert about.spec.head == "yolov8"
    assert about.spec.resize == "letterbox"
    assert about.spec.labels[:2] == ("ball", "box")
    assert about.batches == (1, 2, 4, 8, 16)
    assert about.origin.precision == "float16"
    assert len(about.origin.sha256) == 64
    expected = answers(MODELS / "detect" / "model.onnx", {"images": pixels})
    np.testing.assert_allclose(given[:, :4], expected[:, :4], atol=1.5)  # pixels of 320
    np.testing.assert_allclose(given[:, 4:], expected[:, 4:], atol=0.02)


def test_the_classifier_in_8_bits(exported):
    (one,) = exported("classify", "int8", measure=True)
    about = described(one.path)
    pixels = np.random.default_rng(1).standard_normal((4, 3, 96, 96)).astype(np.float32)

    given = Evaluator(one.path).predict({about.input: pixels})[about.outputs[0]]

    expected = answers(MODELS / "classify" / "model.onnx", {"images": pixels})
    assert (given.argmax(1) == expected.argmax(1)).all()
    assert cosine(given, expected) > 0.999
    assert about.origin.compression == "int8"
    assert about.spec.mean == (0.5, 0.5, 0.5)
    assert one.bytes == size_of(one.path)
    assert one.bytes < 0.58 * one.plain_bytes
    assert one.change is not None
    assert one.change.agreement == 1.0
    assert one.change.cosine > 0.999


def test_the_embedder_and_its_text_encoder(exported):
    image, text = exported("embed")
    folder = image.path.parent
    pixels = np.random.default_rng(2).standard_normal((2, 3, 96, 96)).astype(np.float32)
    ids = np.random.default_rng(3).integers(1, 40, (2, 20))
    seen, read = described(image.path), described(text.path)

    vectors = Evaluator(image.path).predict({seen.input: pixels})[seen.outputs[0]]
    words = Evaluator(text.path).predict({read.input: ids.astype(np.int32)})[read.output]

    assert identify(folder).name == "coreml"
    assert sorted(one.name for one in folder.iterdir()) == ["image.mlpackage", "text.mlpackage", "tokenizer.json"]
    assert seen.spec.tasks == {"embed", "embed_text"}
    assert isinstance(read, TextDescription)
    assert (read.length, read.pad_id, read.mask, read.vocabulary) == (20, 0, None, 48)
    assert cosine(vectors, answers(MODELS / "embed" / "image.onnx", {"pixel_values": pixels})) > 0.9999
    assert cosine(words, answers(MODELS / "embed" / "text.onnx", {"input_ids": ids})) > 0.9999


def test_an_image_input_normalizes_inside(tmp_path):
    path = colour_meter(tmp_path / "model.onnx")
    options = ExportOptions(precision="float32", image_input=True)
    described_by_hand = Options(task="classify", labels=["r", "g", "b"], mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)

    (one,) = export(path, tmp_path / "m.mlpackage", options, described=described_by_hand, shown=[Image(picture)])

    about = described(one.path)
    assert read_model(one.path).interfaces["main"].inputs[0].dtype == "image"
    assert about.image_input
    assert about.batches == (1,)
    expected = ((picture / 255).mean((0, 1)) - (0.5, 0.4, 0.3)) / (0.2, 0.3, 0.4) * 10
    given = Evaluator(one.path).predict({about.input: picture})[about.outputs[0]]
    np.testing.assert_allclose(given[0], expected, rtol=1e-4)
    assert one.change is not None
    assert one.change.agreement == 1.0


@pytest.mark.parametrize("form", ["channels_last", "transposed", "extra", "nms", "half", "fixed"])
def test_forms_of_detectors(tmp_path, form):
    changes: dict[str, Any] = {"extra": {"extra": 5}, "fixed": {"batch": 2}}.get(form, {form: True})
    metadata = {"names": "{0: 'red', 1: 'green', 2: 'blue'}", "task": "detect", "imgsz": "[64, 64]"}
    path = detector(tmp_path / "model.onnx", metadata=metadata, **changes)
    pixels = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    fed = pixels.transpose(0, 2, 3, 1) if form == "channels_last" else pixels
    expected = answers(path, {"images": np.ascontiguousarray(fed.astype(np.float16 if form == "half" else np.float32))})

    by_hand = Options(head="nms") if form == "nms" else None  # so few boxes could be a table of another kind
    quick = ExportOptions(precision="float32", measure=False)
    (one,) = export(path, tmp_path / "m.mlpackage", quick, described=by_hand)

    about = described(one.path)
    given = Evaluator(one.path).predict({about.input: pixels})[about.outputs[0]]
    assert about.batches == ((2,) if form == "fixed" else (1, 2, 4, 8, 16))
    assert about.spec.head == ("nms" if form == "nms" else "yolov8")
    assert given.shape == ((2, 7, 64) if form == "extra" else expected.shape)
    expected = expected[:, :7] if form == "extra" else expected
    np.testing.assert_allclose(given, expected, rtol=5e-3 if form == "half" else 1e-5, atol=1e-4)


def test_a_graph_of_both_is_parted(tmp_path):
    """As optimum exports CLIP: one graph that takes an image and a text."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"]),
        helper.make_node("Flatten", ["means"], ["image_embeds"]),
        helper.make_node("Gather", ["vectors", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "two"], ["column"]),
        helper.make_node("Mul", ["each", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["text_embeds"], keepdims=0),
        helper.make_node("MatMul", ["text_embeds", "square"], ["turned"]),
        helper.make_node("Gemm", ["turned", "image_embeds"], ["logits_per_text"], transB=1),
    ]
    constants = {
        "vectors": WORD_VECTORS.astype(np.float32),
        "one": np.array([1]),
        "two": np.array([2]),
        "square": np.eye(3, dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "both",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "length"]),
            helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["m", 3, 64, 64]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "length"]),
        ],
        [
            helper.make_tensor_value_info("logits_per_text", TensorProto.FLOAT, ["n", "m"]),
            helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["m", 3]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx"
    )
    word_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"model_type": "clip", "vision_config": {"image_size": 64}, "text_config": {"max_position_embeddings": 12}}
        )
    )
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 64, "do_normalize": True})
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))

    image, text = export(tmp_path, tmp_path / "made", ExportOptions(precision="float32", target="ios18"))

    seen, read = described(image.path), described(text.path)
    assert (read.length, read.pad_id, read.mask, read.vocabulary) == (12, 0, "attention_mask", 11)
    assert image.change is not None
    assert image.change.cosine == pytest.approx(1.0)
    ids = np.zeros((2, 12), np.int32)
    ids[0, :3], ids[1, :2] = [2, 4, 5], [4, 4]
    given = Evaluator(text.path).predict({read.input: ids, read.mask: (ids > 0).astype(np.int32)})[read.output]
    np.testing.assert_allclose(given, [[1, 1, 0], [2, 0, 0]])
    pixels = np.ones((4, 3, 64, 64), np.float32) * np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
    np.testing.assert_allclose(
        Evaluator(image.path).predict({seen.input: pixels})[seen.outputs[0]][:, 0], np.arange(4), atol=1e-6
    )


def test_a_mask_for_older_systems_takes_any_number_of_texts(tmp_path):
    """Before iOS 18 only one input may list its shapes, so that both give a range."""
    word_tokenizer(tmp_path / "tokenizer.json")
    colour_meter(tmp_path / "vision_model.onnx", output="image_embeds")
    word_meter(tmp_path / "text_model.onnx", WORD_VECTORS, length=6)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": {"image_size": 64}}))
    options = Options(task="embed", mean=0.5, std=0.5)

    _, text = export(tmp_path, tmp_path / "made", ExportOptions(batches=(1, 4)), described=options)

    read = described(text.path)
    assert read.batches == (1, 2, 3, 4)
    ids = np.full((3, 6), 4, np.int32)
    given = Evaluator(text.path).predict({read.input: ids, read.mask: np.ones_like(ids)})[read.output]
    np.testing.assert_allclose(given, [[6, 0, 0]] * 3)


def test_one_image_and_no_more(tmp_path):
    path = colour_meter(tmp_path / "model.onnx")
    by_hand = Options(task="classify", labels=["r", "g", "b"], mean=0, std=1)

    (one,) = export(path, tmp_path / "m.mlpackage", ExportOptions(batches=(1,), measure=False), described=by_hand)

    assert described(one.path).spec.dynamic_batch is False
    assert read_model(one.path).interfaces["main"].inputs[0].shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        ("m", {}, BadInput, "must end in .mlpackage"),
        ("m.mlpackage", {"target": "ios16"}, BadInput, "target is one of ios17"),
        ("m.mlpackage", {"compression": "int3"}, BadInput, "compression is one of none, int8"),
        ("m.mlpackage", {"compression": "int4"}, BadInput, "int4 weights need iOS 18"),
        ("m.mlpackage", {"stateful": True}, BadInput, "States need iOS 18"),
        ("m.mlpackage", {"precision": "bfloat16"}, BadInput, "precision is one of"),
        ("m.mlpackage", {"batches": (4, 2)}, BadInput, "rising"),
    ],
)
def test_senseless_options(tmp_path, target, options, error, message):
    path = colour_meter(tmp_path / "model.onnx")
    by_hand = Options(task="classify", labels=["r", "g", "b"], mean=0, std=1)

    with pytest.raises(error, match=message):
        export(path, tmp_path / target, ExportOptions(**options), described=by_hand)
    assert not (tmp_path / target).exists()


def test_sources_that_cannot_be_used(tmp_path):
    with pytest.raises(BadInput, match="There is no file"):
        export(tmp_path / "missing.onnx", tmp_path / "m.mlpackage")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(BadInput, match="is no model that can be loaded: its content is text"):
        export(tmp_path / "text.onnx", tmp_path / "m.mlpackage")
    (tmp_path / "m.mlpackage").mkdir()
    with pytest.raises(BadInput, match="exists already.*overwrite"):
        export(tmp_path / "text.onnx", tmp_path / "m.mlpackage")


def test_voices_are_refused_by_name(tmp_path):
    voice = piper(tmp_path / "voice.onnx")

    with pytest.raises(Unsupported, match="is a Piper voice.*random.*run-onnx"):
        export(voice, tmp_path / "m.mlpackage")


def test_nothing_is_left_where_a_node_cannot_be_converted(tmp_path):
    nodes = [
        helper.make_node("Bernoulli", ["images"], ["drawn"], name="dice"),
        helper.make_node("GlobalAveragePool", ["drawn"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    by_hand = Options(task="classify", labels=["r", "g", "b"], mean=0, std=1)

    with pytest.raises(Unsupported, match="node dice .*Bernoulli"):
        export(tmp_path / "model.onnx", tmp_path / "m.mlpackage", QUICK, described=by_hand)
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("text", "expected"), [("1", ((1,), False)), ("1,4,16", ((1, 4, 16), False)), ("2-16", ((2, 16), True))]
)
def test_batches_on_the_command_line(text, expected):
    assert parse_batches(text) == expected


@pytest.mark.parametrize("text", ["", "1-", "a", "1-2-3", "1;2"])
def test_batches_that_are_none(text):
    with pytest.raises(BadInput, match="batches are like"):
        parse_batches(text)


def test_a_package_that_was_not_made_here_is_told(tmp_path):
    with pytest.raises(LoadError, match="does not say what it is"):
        from_metadata({}, "other.mlpackage")
