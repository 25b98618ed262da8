"""Vision checkpoints as ONNX: the outputs are transformers', and the backend uses them without options."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

import onnx
import onnxruntime
import typer
from safetensors.numpy import load_file, save_file
from support import tiny_vision as tiny
from support.onnx_graphs import word_tokenizer
from typer.testing import CliRunner

from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_onnx.export import export
from llama_pajamas_run_onnx.export.command import export_onnx
from llama_pajamas_run_onnx.vision import ONNXVisionBackend

#: What transformers answers: made by tests/support/tiny_vision.py.
RECORDED = json.loads((Path(__file__).parent / "transformers_vision.json").read_text())["outputs"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each checkpoint, exported: by its name, the folder."""
    root = tmp_path_factory.mktemp("export")
    return {name: export(tiny.make(name, root / "source" / name), root / name) for name in tiny.CONFIGS}


def run(folder):
    """All outputs of a folder's graphs for the fixed images and texts."""
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        outputs = session.run(None, {given.name: tiny.texts() if given.name == "input_ids" else tiny.pixels()})
        found |= dict(zip((output.name for output in session.get_outputs()), outputs, strict=True))
    return found


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_outputs_are_those_of_transformers(made, name):
    found = run(made[name])
    assert set(found) == set(RECORDED[name])
    for key, values in RECORDED[name].items():
        np.testing.assert_allclose(found[key].ravel(), values, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_graphs_are_what_engine_builders_read(made, name):
    for path in made[name].glob("*.onnx"):
        model = onnx.load(path)
        assert [one.version for one in model.opset_import] == [17]
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        fixed = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
        assert min(fixed) > 0
        # Whole numbers of 64 bits only where ONNX wants them: shapes and axes.
        large = [one.name for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT64]
        shapes = {name for node in model.graph.node for name in list(node.input)[1:] if node.op_type in _SHAPED}
        assert set(large) <= shapes


_SHAPED = {"Reshape", "Pad", "Unsqueeze", "Squeeze", "ReduceSum"}


@pytest.mark.parametrize("name", ["vit", "deit-teacher", "resnet"])
def test_classifiers_end_to_end(made, name):
    """The whole way: a picture, brought to the input and normalized, gives the logits' softmax."""
    image = np.random.default_rng(3).integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), np.uint8)
    with ONNXVisionBackend(made[name]) as backend:
        assert backend.spec.labels == tiny.LABELS
        assert backend.spec.head == "logits"
        assert (backend.spec.width, backend.spec.height) == (tiny.SIZE, tiny.SIZE)
        crop = 0.875 if name == "resnet" else 1.0
        assert backend.spec.crop == pytest.approx(crop)
        (named,) = backend.classify([Image(image)])
    if crop == 1:  # no resizing in between: the input can be told by hand
        mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
        pixels = (((image / 255) - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
        logits = onnxruntime.InferenceSession(made[name] / "model.onnx").run(None, {"pixel_values": pixels})[0][0]
        weights = np.exp(logits - logits.max())
        expected = dict(zip(tiny.LABELS, weights / weights.sum(), strict=True))
        assert {one.label: one.confidence for one in named} == pytest.approx(expected, abs=1e-5)


def test_clip_end_to_end(tmp_path):
    source = tiny.make("clip", tmp_path / "source")
    word_tokenizer(source / "tokenizer.json")
    (source / "tokenizer_config.json").write_text(json.dumps({"eos_token": "blue"}))  # its number is the end's, 6
    config = json.loads((source / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 3  # what the tokenizer ends with
    (source / "config.json").write_text(json.dumps(config))
    folder = export(source, tmp_path / "clip")
    kept = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == {"text_model.onnx", "vision_model.onnx", *kept}
    with ONNXVisionBackend(folder) as backend:
        assert backend.spec.tasks == {"embed", "embed_text"}
        assert backend.spec.resize == "crop"
        assert backend.spec.crop == pytest.approx(32 / 40)
        image = Image(np.full((50, 40, 3), 90, np.uint8))
        vectors = backend.embed([image, image])
        several = backend.embed_text(["red square", "two circles", "a"])
        assert vectors.shape == (2, tiny.PROJECTION)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(several, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(backend.embed_text(["two circles"]), several[1:2], atol=1e-6)
        assert np.abs(several[0] - several[1]).max() > 1e-2


def test_what_stands_behind_the_end_of_a_text_does_not_count(made):
    session = onnxruntime.InferenceSession(made["clip"] / "text_model.onnx")
    first = tiny.texts()[:1]
    other = first.copy()
    other[0, 3:] = 11
    one, two = (session.run(None, {"input_ids": ids})[0] for ids in (first, other))
    np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(("name", "task"), [("vit", "classify"), ("resnet-basic", "embed"), ("clip-vision", "embed")])
def test_a_graph_alone_tells_what_it_is(made, tmp_path, name, task):
    """The description also stands in the file, for when it is moved without the others."""
    (graph,) = made[name].glob("*.onnx")
    alone = tmp_path / "moved.onnx"
    alone.write_bytes(graph.read_bytes())
    with ONNXVisionBackend(alone) as moved, ONNXVisionBackend(made[name]) as whole:
        assert moved.spec == whole.spec
        assert task in moved.spec.tasks
        image = Image(np.random.default_rng(4).integers(0, 256, (60, 50, 3), np.uint8))
        look = "classify" if task == "classify" else "embed"
        np.testing.assert_array_equal(
            np.asarray(_numbers(getattr(moved, look)([image]))), np.asarray(_numbers(getattr(whole, look)([image])))
        )


def _numbers(found):
    return found if isinstance(found, np.ndarray) else [one.confidence for one in found[0]]


def test_a_damaged_description_is_an_error(tmp_path, made):
    model = onnx.load(made["vit"] / "model.onnx")
    next(entry for entry in model.metadata_props if entry.key == "llama_pajamas").value = '{"task": "classify"'
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(LoadError, match="description in .* is damaged"):
        ONNXVisionBackend(tmp_path / "model.onnx")


def test_half_precision_halves_the_file(tmp_path, made):
    source = tiny.make("clip", tmp_path / "source")
    half = export(source, tmp_path / "half", precision="fp16")
    # The position table and the mask take part; what is small stays.
    assert (half / "vision_model.onnx").stat().st_size < 0.85 * (made["clip"] / "vision_model.onnx").stat().st_size
    found, exact = run(half), run(made["clip"])
    for key in exact:
        np.testing.assert_allclose(found[key], exact[key], atol=5e-3)


def test_checkpoints_in_half_precision_and_in_parts(tmp_path, made):
    source = tiny.make("vit", tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1-of-2.safetensors": names[:10], "model-2-of-2.safetensors": names[10:]}
    for file, part in parts.items():
        save_file({name: tensors[name].astype(np.float16) for name in part}, source / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    found = run(export(source, tmp_path / "made"))
    np.testing.assert_allclose(found["logits"], run(made["vit"])["logits"], atol=5e-3)


def test_a_new_processor_configuration_is_read(tmp_path):
    source = tiny.make("vit", tmp_path / "source")
    prepare = json.loads((source / "preprocessor_config.json").read_text())
    (source / "preprocessor_config.json").unlink()
    (source / "processor_config.json").write_text(json.dumps({"image_processor": prepare}))
    with ONNXVisionBackend(export(source, tmp_path / "made")) as backend:
        assert backend.spec.mean == (0.4, 0.5, 0.6)


def test_weights_past_one_message_lie_beside_the_graph(tmp_path, monkeypatch, made):
    monkeypatch.setattr("llama_pajamas_run_onnx.export.graph._LARGEST", 1000)
    folder = export(tiny.make("vit", tmp_path / "source"), tmp_path / "made")
    assert (folder / "model.onnx.data").is_file()
    np.testing.assert_array_equal(run(folder)["logits"], run(made["vit"])["logits"])


def test_a_checkpoint_without_normalization_needs_options(tmp_path):
    source = tiny.make("vit", tmp_path / "source")
    (source / "preprocessor_config.json").unlink()
    folder = export(source, tmp_path / "made")
    with pytest.raises(BadInput, match="Nothing beside or in") as raised:
        ONNXVisionBackend(folder)
    assert "mean=(r, g, b)" in str(raised.value.hint)
    with ONNXVisionBackend(folder, mean=0.5, std=0.5) as backend:
        assert backend.spec.labels == tiny.LABELS


class TestRefusals:
    def test_another_task(self, tmp_path):
        source = tiny.make("vit", tmp_path / "source")
        _change(source, architectures=["ViTForMaskedImageModeling"])
        with pytest.raises(Unsupported, match="ViTForMaskedImageModeling"):
            export(source, tmp_path / "made")
        assert not (tmp_path / "made").exists()

    def test_an_unknown_activation(self, tmp_path):
        source = tiny.make("vit", tmp_path / "source")
        _change(source, hidden_act="mish")
        with pytest.raises(Unsupported, match="mish"):
            export(source, tmp_path / "made")

    def test_a_configuration_of_another_model(self, tmp_path):
        source = tiny.make("vit", tmp_path / "source")
        _change(source, image_size=64)
        with pytest.raises(LoadError, match="17 positions for 64 patches"):
            export(source, tmp_path / "made")

    def test_a_missing_tensor(self, tmp_path):
        source = tiny.make("resnet", tmp_path / "source")
        tensors = load_file(source / "model.safetensors")
        del tensors["resnet.embedder.embedder.normalization.running_var"]
        save_file(tensors, source / "model.safetensors")
        with pytest.raises(LoadError, match=r"normalization\.running_var"):
            export(source, tmp_path / "made")

    def test_a_resnet_without_a_size(self, tmp_path):
        source = tiny.make("resnet", tmp_path / "source")
        (source / "preprocessor_config.json").unlink()
        with pytest.raises(BadInput, match="tells no size of images"):
            export(source, tmp_path / "made")

    def test_a_text_tower_alone(self, tmp_path):
        source = tiny.make("clip", tmp_path / "source")
        tensors = load_file(source / "model.safetensors")
        save_file({k: v for k, v in tensors.items() if not k.startswith("vis")}, source / "model.safetensors")
        with pytest.raises(Unsupported, match="no image encoder"):
            export(source, tmp_path / "made")

    def test_an_index_that_points_outside(self, tmp_path):
        source = tiny.make("vit", tmp_path / "source")
        index = {"weight_map": {"a": "../elsewhere.safetensors"}}
        (source / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(LoadError, match="outside its own folder"):
            export(source, tmp_path / "made")


class TestTargets:
    def test_what_is_there_is_replaced_where_that_was_asked_for(self, tmp_path, made):
        source, target = tiny.make("vit", tmp_path / "source"), tmp_path / "made"
        target.mkdir()
        (target / "old").touch()
        with pytest.raises(BadInput, match="made exists already"):
            export(source, target)
        assert (target / "old").exists()
        export(source, target, overwrite=True)
        assert not (target / "old").exists()
        np.testing.assert_array_equal(run(target)["logits"], run(made["vit"])["logits"])
        assert sorted(one.name for one in tmp_path.iterdir()) == ["made", "source"]

    @pytest.mark.parametrize("place", ["source", "."])
    def test_what_it_is_made_from_is_never_replaced(self, tmp_path, place):
        source = tiny.make("vit", tmp_path / "source")
        with pytest.raises(BadInput, match="holds what it is to be made from"):
            export(source, tmp_path / place, overwrite=True)
        assert (source / "model.safetensors").is_file()

    @pytest.mark.parametrize(("how", "error"), [({"precision": "int4"}, BadInput), ({}, Unsupported)])
    def test_what_cannot_be_made_is_named(self, tmp_path, how, error):
        source = tiny.make("vit", tmp_path / "source")
        _change(source, model_type="no-such-type")
        with pytest.raises(error, match="int4|no-such-type.*There are: clip"):
            export(source, tmp_path / "made", **how)

    def test_the_command(self, tmp_path):
        app = typer.Typer()
        app.command()(export_onnx)
        source, target = tiny.make("vit", tmp_path / "source"), tmp_path / "made"
        arguments = [str(source), str(target), "--precision", "fp16"]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.output.startswith(f"{target}: 0.")
        assert "model.onnx" in done.output
        with pytest.raises(BadInput, match="exists already"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert CliRunner().invoke(app, [*arguments, "--overwrite"], catch_exceptions=False).exit_code == 0


def test_a_clip_without_a_tokenizer_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        export(tiny.make("clip", tmp_path / "source"), tmp_path / "made")
    assert "has no tokenizer.json" in caplog.text


def _change(source, **values):
    path = source / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
