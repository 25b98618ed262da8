"""Exports in the flavour of each TensorRT: surgery, quantization, the accuracy gate, folders, the command."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import onnx_graphs
from typer.testing import CliRunner

import llama_pajamas_starter
from llama_pajamas_run_core.errors import BadInput, LoadError, OutOfMemory, Unsupported
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_tensorrt._versions import TABLE
from llama_pajamas_run_tensorrt.engine_file import EngineRecord
from llama_pajamas_run_tensorrt.export.calibrate import activation_ranges, entropy_threshold
from llama_pajamas_run_tensorrt.export.describe import vision_reading
from llama_pajamas_run_tensorrt.export.gate import Change, mean_average_precision, measure
from llama_pajamas_run_tensorrt.export.graph import prepare
from llama_pajamas_run_tensorrt.export.halve import halved
from llama_pajamas_run_tensorrt.export.images import batches, read_images
from llama_pajamas_run_tensorrt.export.options import (
    BuildOptions,
    default_output,
    parse_dim,
    parse_precision,
    parse_range,
    parse_shape,
)
from llama_pajamas_run_tensorrt.export.quantize import quantized
from llama_pajamas_starter.vision.scenes import scene, single_object

STARTER = Path(llama_pajamas_starter.__file__).parent / "models"
GRAPHS = ["detect/model.onnx", "classify/model.onnx", "embed/image.onnx", "embed/text.onnx"]


def feeds(graph, rows=2, seed=0):
    made = {}
    for one in onnxruntime.InferenceSession(graph).get_inputs():
        shape = [rows if isinstance(size, str) else size for size in one.shape]
        rng = np.random.default_rng(seed)
        made[one.name] = rng.random(shape, np.float32) if "float" in one.type else np.ones(shape, np.int64)
    return made


def run(model, given):
    session = onnxruntime.InferenceSession(
        model if isinstance(model, Path) else model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, given), strict=True))


def difference(made, wanted):
    assert made.keys() == wanted.keys()
    return max(np.abs(made[name] - array).max() / np.abs(array).max() for name, array in wanted.items())


@pytest.mark.parametrize("name", GRAPHS)
def test_folding_changes_no_answer(name):
    graph = STARTER / name
    surgery = prepare(graph, TABLE[8])
    before, after = len(onnx.load(graph).graph.node), len(surgery.model.graph.node)
    assert surgery.changes == (f"{before - after} of {before} nodes folded",)
    given = feeds(graph)
    assert difference(run(surgery.model, given), run(graph, given)) < 1e-5


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("detect/model.onnx", ("output0", ("batch", 14, 2100), "yolov8")),
        ("classify/model.onnx", ("logits", ("batch", 10), "logits")),
        ("embed/image.onnx", ("image_embeds", ("batch", 128), "embedding")),
    ],
)
def test_heads_are_told(name, output):
    (one,) = prepare(STARTER / name, TABLE[10]).outputs
    assert (one.name, one.shape, one.head) == output


def test_an_end_to_end_head_is_told(tmp_path):
    graph = onnx_graphs.detector(tmp_path / "nms.onnx", nms=True)
    assert [(one.name, one.shape[2]) for one in prepare(graph, TABLE[8]).outputs] == [("output0", 6)]


@pytest.mark.parametrize("name", GRAPHS)
def test_half_precision_in_the_graph_keeps_the_answers(name):
    graph = STARTER / name
    half = halved(prepare(graph, TABLE[11]))
    onnx.checker.check_model(half.model)
    kinds = {one.data_type for one in half.model.graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    given = feeds(graph)
    made = run(half.model, given)
    assert all(array.dtype == np.float32 for array in made.values())
    assert difference(made, run(graph, given)) < 2e-3


def test_a_fixed_batch_is_made_free(tmp_path):
    model = onnx.load(STARTER / "detect" / "model.onnx")
    for one in (*model.graph.input, *model.graph.output):
        one.type.tensor_type.shape.dim[0].dim_value = 1
    fixed = tmp_path / "fixed.onnx"
    onnx.save(model, fixed)
    surgery = prepare(fixed, TABLE[8], batch=(1, 8, 64))
    assert surgery.inputs[0].shape[0] == "batch"
    assert "the batch of 1 made free" in surgery.changes[0]
    given = feeds(STARTER / "detect" / "model.onnx", rows=3)
    assert difference(run(surgery.model, given), run(STARTER / "detect" / "model.onnx", given)) < 1e-5


@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 2, 4), (4, 4, 4)], ids=["as it is", "a range", "another one"])
def test_the_batch_that_is_asked_for_is_built(stand_in, tmp_path, batch):
    from llama_pajamas_run_tensorrt.derive import vision_engine
    from llama_pajamas_run_tensorrt.export.make import export_model

    graph = onnx_graphs.detector(tmp_path / "model.onnx", batch=1)
    made = export_model(graph, tmp_path / "out.engine", BuildOptions(batch=batch)).made[0].record
    derived = EngineRecord.read(vision_engine(graph, batch=batch))
    for record in (made, derived):
        if batch == (1, 1, 1):
            assert record.profiles == ()
        else:
            assert record.profiles[0]["images"] == tuple((rows, 3, 64, 64) for rows in batch)


def test_a_free_size_of_images_is_the_models_own_whatever_the_batch(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.derive import vision_engine

    model = onnx.load(onnx_graphs.detector(tmp_path / "model.onnx", batch=1))
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    helper.set_model_props(model, {"task": "detect", "imgsz": "[64, 64]", "names": "{0: 'a', 1: 'b', 2: 'c'}"})
    onnx.save(model, tmp_path / "model.onnx")
    record = EngineRecord.read(vision_engine(tmp_path / "model.onnx", batch="1:2:4"))
    assert record.profiles == ({"images": ((1, 3, 64, 64), (2, 3, 64, 64), (4, 3, 64, 64))},)


def test_a_size_that_no_graph_has_is_told(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model

    words = onnx_graphs.word_meter(tmp_path / "text.onnx", np.eye(11, 3))
    with pytest.raises(BadInput, match="text.onnx has no free size 'lenght'; it has batch, length"):
        export_model(words, tmp_path / "out.engine", BuildOptions(dims={"length": (1, 8, 8), "lenght": (1, 8, 8)}))
    fixed = onnx_graphs.detector(tmp_path / "fixed.onnx", batch=1)
    with pytest.raises(BadInput, match="no free size 'frames'; it leaves none free"):
        export_model(fixed, tmp_path / "out.engine", BuildOptions(dims={"frames": (1, 8, 8)}))


def reshaped(path, shape):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("Relu", ["flat"], ["y"])]
    size = [abs(part) for part in shape]
    return onnx_graphs.save(
        path, nodes, {"x": (TensorProto.FLOAT, [2, 3, 4])}, {"y": size}, {"shape": np.array(shape, np.int64)}
    )


def test_reshapes_to_a_fixed_batch_are_rewritten(tmp_path):
    surgery = prepare(reshaped(tmp_path / "a.onnx", [2, 12]), TABLE[8], batch=(1, 8, 64))
    assert surgery.changes[0] == "the batch of 2 made free, 1 reshapes rewritten"
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(surgery.model, {"x": x})["y"], np.maximum(x.reshape(5, 12), 0))


def test_a_batch_that_cannot_be_free_is_refused(tmp_path):
    mixed = reshaped(tmp_path / "mixed.onnx", [6, 4])
    with pytest.raises(Unsupported, match="made for a batch of 2"):
        prepare(mixed, TABLE[8], batch=(1, 8, 64))


def test_outputs_are_cut_to_those_that_are_wanted(tmp_path):
    surgery = prepare(STARTER / "detect" / "model.onnx", TABLE[8])
    inner = next(node.output[0] for node in surgery.model.graph.node if node.op_type == "Sigmoid")
    cut = prepare(STARTER / "detect" / "model.onnx", TABLE[8], outputs=[inner])
    assert [one.name for one in cut.outputs] == [inner]
    assert len(cut.model.graph.node) < 10
    with pytest.raises(BadInput, match="no tensor 'nothing'; its outputs are output0"):
        prepare(STARTER / "detect" / "model.onnx", TABLE[8], outputs=["nothing"])


def test_a_newer_opset_is_converted_or_refused(tmp_path):
    graph = onnx_graphs.colour_meter(tmp_path / "colours.onnx")
    model = onnx.version_converter.convert_version(onnx.load(graph), 19)
    newer = tmp_path / "newer.onnx"
    onnx.save(model, newer)
    assert prepare(newer, TABLE[8]).changes[0] == "opset 19 converted to 17"
    assert prepare(newer, TABLE[10]).changes == ()
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Gelu", ""
    model.opset_import[0].version = 20
    onnx.save(model, newer)
    with pytest.raises(Unsupported, match="has opset 20, this TensorRT reads up to 17"):
        prepare(newer, TABLE[8])


def test_damaged_graphs_are_told(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"something else")
    with pytest.raises(BadInput, match="is no ONNX file"):
        prepare(tmp_path / "a.onnx", TABLE[8])
    whole = (STARTER / "classify" / "model.onnx").read_bytes()
    (tmp_path / "b.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match="b.onnx"):
        prepare(tmp_path / "b.onnx", TABLE[8])


def test_the_entropy_threshold_leaves_outliers_out():
    rng = np.random.default_rng(0)
    values = np.abs(np.concatenate([rng.normal(0, 1, 100_000), [40.0]]))
    counts = np.histogram(values, 2048, (0, 40))[0].astype(float)
    assert 2.5 < entropy_threshold(counts, 40.0) < 8
    even = np.full(2048, 100.0)
    assert entropy_threshold(even, 5.0) == pytest.approx(5.0, rel=0.02)
    assert entropy_threshold(np.zeros(2048), 0.0) == 1.0


def test_ranges_are_those_of_the_values(tmp_path):
    graph = onnx.load(onnx_graphs.colour_meter(tmp_path / "colours.onnx"))
    ramp = np.linspace(0, 1, 64 * 64 * 3, dtype=np.float32).reshape(1, 3, 64, 64)
    told = []
    found = activation_ranges(
        graph, ["pixel_values", "means"], lambda: [{"pixel_values": ramp}], lambda *given: told.append(given)
    )
    assert found["pixel_values"] == pytest.approx(1, rel=0.02)
    assert 0.4 < found["means"] <= 0.84
    assert told == [("calibrating", 1.0)]
    with pytest.raises(BadInput, match="nothing to calibrate with"):
        activation_ranges(graph, ["means"], list)


@pytest.fixture(scope="module")
def scenes():
    return [Image(scene(seed).image) for seed in range(8)]


@pytest.fixture(scope="module")
def int8_detector(scenes):
    """The starter detector with Q/DQ nodes, calibrated on sixteen scenes."""
    graph = STARTER / "detect" / "model.onnx"
    surgery = prepare(graph, TABLE[8])
    reading = vision_reading(graph, surgery)
    return reading, quantized(surgery, lambda: [{reading.pixels.name: one} for one in batches(scenes, reading, 8)])


def test_int8_in_the_graph_has_its_form(int8_detector):
    model = int8_detector[1].model
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") > 100
    values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    weights = [node for node in pairs if values[node.input[1]].ndim == 1]
    assert all(values[node.input[1]].shape == (values[node.input[0]].shape[0],) for node in weights)
    assert all((values[node.input[1]] > 0).all() and not values[node.input[2]].any() for node in pairs)
    fed = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    assert sum(not name.endswith("dequantized") for name in fed) == 6  # those before the outputs
    assert "63 layers quantized, 6 before the outputs left as they are" in int8_detector[1].changes


def test_int8_finds_what_fp32_finds(int8_detector, scenes):
    reading, surgery = int8_detector
    given = [{reading.pixels.name: one} for one in batches(scenes, reading, 8)]
    graph = STARTER / "detect" / "model.onnx"
    change = measure(
        lambda one: run(graph, one), lambda one: run(surgery.model, one), given, precision="int8", reading=reading
    )
    assert (change.figure, change.cases, change.limit) == ("mAP50", 8, 1.0)
    assert change.loss <= 1.0
    assert change.passed


def test_nothing_to_quantize_is_told(tmp_path):
    surgery = prepare(onnx_graphs.colour_meter(tmp_path / "colours.onnx"), TABLE[8])
    with pytest.raises(Unsupported, match="no layer with weights"):
        quantized(surgery, lambda: [])


def boxes(*rows):
    array = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return array, np.array([row[4] for row in rows], np.float32), np.array([row[5] for row in rows], np.int64)


def test_mean_average_precision_by_hand():
    truth = [boxes((0, 0, 10, 10, 1, 0), (20, 20, 30, 30, 1, 1))]
    assert mean_average_precision(truth, truth) == 1.0
    assert mean_average_precision(truth, [boxes((0, 0, 10, 10, 0.9, 0))]) == 0.5
    wrong_first = [boxes((50, 50, 60, 60, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (20, 20, 30, 30, 0.5, 1))]
    assert mean_average_precision(truth, wrong_first) == pytest.approx((0.5 + 1.0) / 2)
    assert mean_average_precision(truth, [boxes((0, 0, 10, 4, 0.9, 0), (20, 20, 30, 30, 0.5, 1))]) == 0.5
    assert mean_average_precision([boxes()], [boxes((0, 0, 1, 1, 0.9, 0))]) == 1.0


def test_the_gate_reads_an_engines_outputs_in_the_graphs_order(tmp_path):
    graph = onnx_graphs.lists(tmp_path / "model.onnx", batched=True)
    config = {"task": "detect", "head": "boxes", "labels": list(onnx_graphs.COLOURS),
              "input": {"width": 64, "height": 64, "resize": "letterbox", "mean": [0] * 3, "std": [1] * 3}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    reading = vision_reading(graph, prepare(graph, TABLE[10]))
    pixels = onnx_graphs.scene(top_left="red", bottom_right="blue")
    given = [{reading.pixels.name: one} for one in batches([Image(pixels)], reading, 1)]

    def reversed_(feeds):
        return dict(reversed(run(graph, feeds).items()))

    change = measure(lambda one: run(graph, one), reversed_, given, precision="fp32", reading=reading)
    assert (change.figure, change.value, change.passed) == ("mAP50", 1.0, True)


def test_the_gate_by_hand():
    wanted = {"y": np.array([[1.0, 0.0], [0.0, 2.0]])}
    made = {"y": np.array([[1.0, 0.0], [0.0, 1.0]])}
    change = measure(lambda _: wanted, lambda _: made, [{"x": np.zeros((2, 1))}], precision="fp16")
    assert change.figure == "cosine"
    assert change.value == pytest.approx(3 / np.sqrt(10))
    assert (change.largest, change.cases, change.limit) == (0.5, 2, 0.1)
    assert not change.passed
    with pytest.raises(Unsupported, match=r"out.engine loses 5.13 points of cosine against FP32, more than .* 0.1"):
        change.check("out.engine")
    Change("top-1", 0.995, 0.1, 100, 0.5).check("just within")


def test_the_engine_of_a_starter_model_with_its_change(stand_in, tmp_path, scenes):
    from llama_pajamas_run_tensorrt.export.make import export_model

    told = []
    (made,) = export_model(
        STARTER / "detect" / "model.onnx", tmp_path / "out.engine", BuildOptions(precision="int8", batch=(1, 4, 8)),
        images=scenes, progress=lambda phase, share: told.append(phase),
    ).made  # fmt: skip
    assert made.change.figure == "mAP50"
    assert made.change.loss <= 1.0
    record = EngineRecord.read(made.engine)
    assert record.accuracy["figure"] == "mAP50"
    assert record.accuracy["loss"] == round(made.change.loss, 4)
    assert record.build["int8"] == "Q/DQ"
    assert record.description["head"] == "yolov8"
    assert "calibrating" in told
    assert ("Building Engine" in told) == (stand_in.tensorrt.flavour != "8.6")
    assert made.lines()[0].startswith(f"{tmp_path / 'out.engine'}: int8, ")
    assert made.lines()[1] == "  images: 1x3x320x320 : 4x3x320x320 : 8x3x320x320"


def test_a_loss_past_the_limit_leaves_no_engine(stand_in, tmp_path, scenes):
    from llama_pajamas_run_tensorrt.export.make import export_model

    target = tmp_path / "out" / "out.engine"
    graph, options = STARTER / "classify" / "model.onnx", BuildOptions(batch=(1, 4, 8))
    with pytest.raises(Unsupported, match="more than the limit of -1.*--force"):
        export_model(graph, target, options, images=scenes[:4], limit=-1)
    assert not list(target.parent.iterdir())
    (made,) = export_model(graph, target, options, images=scenes[:4], limit=-1, force=True).made
    assert {file.name for file in target.parent.iterdir()} == {"out.engine", "out.engine.json"}
    assert not made.change.passed
    assert made.lines()[0].startswith(f"{target}: fp16, ")
    before = target.read_bytes(), EngineRecord.read(target)
    with pytest.raises(Unsupported, match="out.engine loses"):
        export_model(graph, target, BuildOptions(batch=(1, 2, 2)), images=scenes[:4], limit=-1)
    assert (target.read_bytes(), EngineRecord.read(target)) == before


def test_tensorrts_own_calibrator(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model

    images = [Image(single_object(seed).image) for seed in range(20)]
    graph = STARTER / "classify" / "model.onnx"
    options = BuildOptions(precision="int8", batch=(1, 8, 8), calibrator=True)
    if stand_in.tensorrt.flavour == "11":
        with pytest.raises(BadInput, match="TensorRT 11 has no calibrators"):
            export_model(graph, tmp_path / "out.engine", options, images=images)
        return
    (made,) = export_model(graph, tmp_path / "out.engine", options, images=images).made
    assert made.record.build["int8"] == "calibrator"
    assert made.change.figure == "top-1"
    assert stand_in.tensorrt.calibrated == 2  # batches of eight; what is left over is no batch
    assert {flag.name for flag in stand_in.tensorrt.last_config.flags} == {"TF32", "FP16", "INT8"}
    assert stand_in.cuda.state.allocated == 0


def test_int8_without_pictures_or_description_is_refused(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model

    with pytest.raises(BadInput, match="--calibrate FOLDER"):
        export_model(STARTER / "detect" / "model.onnx", tmp_path / "a.engine", BuildOptions(precision="int8"))
    bare = onnx_graphs.colour_meter(tmp_path / "bare.onnx")
    with pytest.raises(BadInput, match=r"Lay its config.json beside it"):
        export_model(bare, tmp_path / "a.engine", BuildOptions(precision="int8"))


def test_a_folder_of_graphs_becomes_a_folder_of_engines(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model

    exported = export_model(STARTER / "embed", tmp_path / "embed", BuildOptions(batch=(1, 2, 4)))
    names = {file.name for file in (tmp_path / "embed").iterdir()}
    assert names >= {"image.engine", "image.engine.json", "text.engine", "config.json", "tokenizer.json"}
    assert [one.change.figure for one in exported.made] == ["cosine", "cosine"]
    assert [one.record.task for one in exported.made] == ["vision", ""]
    with pytest.raises(BadInput, match="the output has to be a folder"):
        export_model(STARTER / "embed", tmp_path / "embed.engine", BuildOptions())


def test_engines_may_lie_beside_their_graphs(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model

    folder = shutil.copytree(STARTER / "classify", tmp_path / "classify")
    before = {file.name for file in folder.iterdir()}
    export_model(folder / "model.onnx", folder, BuildOptions(batch=(1, 2, 4)))
    assert {file.name for file in folder.iterdir()} == before | {"model.engine", "model.engine.json"}


def test_a_place_where_nothing_can_be_written_is_told_before_the_build(stand_in, tmp_path, monkeypatch):
    from llama_pajamas_run_tensorrt.export import make

    graph = STARTER / "classify" / "model.onnx"
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder.engine").mkdir()
    monkeypatch.setattr(stand_in.tensorrt, "Builder", None)  # would raise TypeError if it were called
    with pytest.raises(BadInput, match=r"file cannot be made: .*xists"):
        make.export_model(graph, tmp_path / "file" / "out.engine", BuildOptions())
    with pytest.raises(BadInput, match=r"folder\.engine cannot be written: it is a folder"):
        make.export_model(graph, tmp_path / "folder.engine", BuildOptions())
    monkeypatch.setattr(make.os, "access", lambda path, how: False)
    with pytest.raises(BadInput, match=r"out\.engine cannot be written: .* is not writable"):
        make.export_model(graph, tmp_path / "out.engine", BuildOptions())


def test_a_full_disk_loses_the_timings_but_not_the_engine(stand_in, tmp_path, monkeypatch, caplog):
    from llama_pajamas_run_tensorrt.export import build, make, timings

    write = build.write_whole

    def full(path, data):
        if path.suffix in suffixes:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    for module in (build, timings):
        monkeypatch.setattr(module, "write_whole", full)
    graph, suffixes = STARTER / "classify" / "model.onnx", {".cache"}
    (made,) = make.export_model(graph, tmp_path / "out.engine", BuildOptions(batch=(1, 2, 4))).made
    assert made.engine.is_file()
    assert "could not be kept" in caplog.text
    suffixes = {".engine"}
    with pytest.raises(OutOfMemory, match="does not fit on the disk"):
        make.export_model(graph, tmp_path / "other.engine", BuildOptions(batch=(1, 2, 4)))


def test_layers_are_compared_by_name(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model

    (made,) = export_model(
        STARTER / "classify" / "model.onnx", tmp_path / "out.engine",
        BuildOptions(precision="fp32", batch=(1, 2, 4)), compare=True,
    ).made  # fmt: skip
    assert {layer.op for layer in made.layers} >= {"Conv", "MatMul", "Softmax"}
    assert all(layer.largest < 1e-5 for layer in made.layers)
    assert len(made.layers) == 24


def test_pictures_from_a_folder(tmp_path):
    from PIL import Image as Picture

    (tmp_path / "below").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "b.png")
    np.save(tmp_path / "below" / "a.npy", pixels)
    (tmp_path / "notes.txt").write_text("nothing")
    found = read_images(tmp_path)
    assert len(found) == 2
    assert all(np.array_equal(one.pixels, pixels) for one in found)
    assert len(read_images(tmp_path, most=1)) == 1
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(LoadError, match="c.png is no picture"):
        read_images(tmp_path)
    with pytest.raises(BadInput, match="There is no folder"):
        read_images(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds no pictures"):
        read_images(Path(llama_pajamas_starter.__file__).parent / "speech")


def test_words_of_the_command_line(tmp_path, monkeypatch):
    assert parse_range("8") == (8, 8, 8)
    assert parse_range("1:8:64") == (1, 8, 64)
    assert parse_dim("frames=100:1500:3000") == ("frames", (100, 1500, 3000))
    assert parse_shape("x=1x3") == ("x", ((1, 3),) * 3)
    assert parse_shape("x=1x3:2x3:4x3") == ("x", ((1, 3), (2, 3), (4, 3)))
    assert parse_precision("FP16") == "fp16"
    for wrong in ("", "a", "1:2", "8:4:1", "0:1:2", "1:2:3:4"):
        with pytest.raises(BadInput):
            parse_range(wrong)
    for wrong in ("x", "x=", "x=1x", "x=2x3:1x3:4x3", "x=1x3:2x3", "x=1x3:2x3x1:4x3"):
        with pytest.raises(BadInput):
            parse_shape(wrong)
    for wrong in ("frames", "=1:2:3"):
        with pytest.raises(BadInput):
            parse_dim(wrong)
    with pytest.raises(BadInput, match="fp32, fp16 or int8, not 'fp8'"):
        parse_precision("fp8")
    with pytest.raises(BadInput, match="level must be from 0 to 5"):
        BuildOptions(level=6)
    with pytest.raises(BadInput, match="workspace must be at least 1 MB, not 0"):
        BuildOptions(workspace=0)
    assert default_output(Path("models/yolov8n.onnx"), "fp16") == Path("yolov8n-fp16.engine")
    assert default_output(Path("models/resnet/model.onnx"), "int8") == Path("resnet-int8.engine")
    assert default_output(tmp_path, "fp16") == Path(f"{tmp_path.name}-fp16")
    monkeypatch.chdir(tmp_path)
    assert default_output(Path(), "fp16") == Path(f"{tmp_path.name}-fp16")


def test_the_command(stand_in, tmp_path, monkeypatch):
    import typer

    from llama_pajamas_run_tensorrt.export.command import export

    app = typer.Typer()
    app.command()(export)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app,
        [str(STARTER / "classify" / "model.onnx"), "--batch", "1:2:4", "--tactics", "JIT_CONVOLUTIONS", "--level", "1"],
    )
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "classify-fp16.engine.json").read_text())
    assert record["build"]["tactics"] == ["JIT_CONVOLUTIONS"]
    assert record["profiles"] == [{"images": [[1, 3, 96, 96], [2, 3, 96, 96], [4, 3, 96, 96]]}]
    assert "top-1 1.0000 of FP32's on 8 cases" in done.output
    shown = CliRunner().invoke(app, [str(STARTER / "classify" / "model.onnx"), "--inspect"])
    assert "logits [dtype=float32, shape=('batch', 10)]" in shown.output
    assert "Heads: logits: logits" in shown.output
