"""Whole programs in the reference evaluator: states, branches, loops, functions, compressed weights, and refusals."""

import shutil
import warnings

import numpy as np
import pytest
from support.coreml_programs import builder, ct, program, save

from llama_pajamas_run_core.errors import BadInput, InferenceError, LoadError, Unsupported
from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator
from llama_pajamas_run_coreml.evaluate.types import rounded
from llama_pajamas_run_coreml.evaluate.weights import unpacked

mb = builder()
types = ct.converters.mil.mil.types


def rng(seed=0):
    return np.random.default_rng(seed)


def rewritten(package, change):
    """A package with its specification changed."""
    (file,) = package.rglob("*.mlmodel")
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    change(spec)
    file.write_bytes(spec.SerializeToString())
    return package


def body(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


@pytest.fixture(scope="module")
def simple(tmp_path_factory):
    """x [1, 4] -> relu(linear), 3 wide."""
    weight = rng().normal(size=(3, 4)).astype(np.float32)
    made = program({"x": np.zeros((1, 4), np.float32)}, lambda x: mb.relu(x=mb.linear(x=x, weight=weight), name="y"))
    return save(made, tmp_path_factory.mktemp("simple") / "simple.mlpackage")


@pytest.fixture
def copied(simple, tmp_path):
    return shutil.copytree(simple, tmp_path / "copy.mlpackage")


def test_half_precision_rounds_as_numpy_does():
    sizes = 10.0 ** rng().uniform(-9, 6, 200_000)
    edges = [0.0, -0.0, 65503, 65504, 65519, 65519.996, 65520, 65536, 1e-8, 2**-24, 2**-25, 3 * 2**-25, 2**-14,
             2**-14 - 2**-25, 1 + 2**-11, 1 + 3 * 2**-11, np.inf, -np.inf, np.nan]  # fmt: skip
    x = np.concatenate([rng(1).normal(size=200_000) * sizes, edges, np.negative(edges)]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rounded(x), expected)
    np.testing.assert_array_equal(np.signbit(rounded(x)), np.signbit(expected))
    assert rounded(np.float32(1.0002)).shape == ()
    assert rounded(np.zeros((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize(("dtype", "bits"), [("uint1", 1), ("uint2", 2), ("uint3", 3), ("uint4", 4), ("uint6", 6)])
def test_packed_numbers_as_coremltools_packs_them(dtype, bits):
    from coremltools.optimize import _utils

    numbers = rng(bits).integers(0, 2**bits, 77).astype(np.uint8)
    np.testing.assert_array_equal(unpacked(_utils.pack_elements_into_bits(numbers, bits), dtype, 77), numbers)


def test_packed_numbers_with_a_sign():
    from coremltools.optimize import _utils

    numbers = rng().integers(-8, 8, 31).astype(np.int8)
    np.testing.assert_array_equal(unpacked(_utils.pack_elements_into_bits(numbers, 4), "int4", 31), numbers)


def test_a_state_is_kept_between_predictions(tmp_path):
    @mb.program(
        input_specs=[mb.TensorSpec((2, 3), types.fp16), mb.StateTensorSpec((2, 3), types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def counting(x, total):
        return mb.mul(x=mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x)),
                      y=np.float16(2), name="y")  # fmt: skip

    evaluator = Evaluator(save(counting, tmp_path / "counting.mlpackage"))
    assert [one.name for one in evaluator.interface.states] == ["total"]
    one, other = evaluator.make_state(), evaluator.make_state()
    x = np.arange(6, dtype=np.float16).reshape(2, 3)
    for times in (1, 2, 3):
        np.testing.assert_array_equal(evaluator.predict({"x": x}, one)["y"], 2 * times * x)
    np.testing.assert_array_equal(evaluator.predict({"x": x}, other)["y"], 2 * x)
    with pytest.raises(BadInput, match="stateful"):
        evaluator.predict({"x": x})


def test_branches_and_loops(tmp_path):
    def build(x, n):
        big = mb.greater(x=mb.reduce_sum(x=x, axes=[0], keep_dims=False), y=10.0)
        branch = mb.cond(pred=big, _true_fn=lambda: mb.mul(x=x, y=10.0), _false_fn=lambda: mb.sub(x=x, y=1.0))
        steps = mb.squeeze(x=n)
        _, doubled = mb.while_loop(
            _cond=lambda i, value: mb.less(x=i, y=steps),
            _body=lambda i, value: (mb.add(x=i, y=1), mb.add(x=value, y=value)),
            loop_vars=(np.int32(0), x),
        )
        return branch, doubled

    example = {"x": np.zeros(3, np.float32), "n": np.zeros(1, np.int32)}
    evaluator = Evaluator(save(program(example, build), tmp_path / "flow.mlpackage"))
    names = [one.name for one in evaluator.interface.outputs]
    for x, count in (([1, 2, 3], 0), ([4, 5, 6], 3)):
        given = np.array(x, np.float32)
        made = evaluator.predict({"x": given, "n": np.array([count], np.int32)})
        expected = given * 10 if given.sum() > 10 else given - 1
        np.testing.assert_array_equal(made[names[0]], expected)
        np.testing.assert_array_equal(made[names[1]], given * 2**count)


def test_several_functions_share_their_weights(tmp_path):
    weight = rng().normal(size=(4, 4)).astype(np.float32)
    for name, act in (("one", mb.relu), ("two", mb.tanh)):
        made = program(
            {"x": np.zeros((1, 4), np.float32)}, lambda x, a=act: a(x=mb.linear(x=x, weight=weight), name="y")
        )
        save(made, tmp_path / f"{name}.mlpackage")
    described = ct.utils.MultiFunctionDescriptor()
    described.add_function(str(tmp_path / "one.mlpackage"), "main", "positive")
    described.add_function(str(tmp_path / "two.mlpackage"), "main", "bounded")
    described.default_function_name = "positive"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct.utils.save_multifunction(described, str(tmp_path / "both.mlpackage"))
    x = rng(1).normal(size=(1, 4)).astype(np.float32)
    both = tmp_path / "both.mlpackage"
    default = Evaluator(both).predict({"x": x})["y"]
    np.testing.assert_allclose(default, np.maximum(x @ weight.T, 0), rtol=1e-6)
    np.testing.assert_allclose(Evaluator(both, "bounded").predict({"x": x})["y"], np.tanh(x @ weight.T), rtol=1e-6)
    with pytest.raises(BadInput, match="no function 'third'.*positive"):
        Evaluator(both, "third")


def test_free_sizes_within_what_is_promised(tmp_path):
    @mb.program(
        input_specs=[mb.TensorSpec(shape=(ct.converters.mil.mil.get_new_symbol(), 3))], opset_version=ct.target.iOS17
    )
    def free(x):
        return mb.reshape(x=mb.mul(x=x, y=2.0), shape=[-1, 1, 3], name="y")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.convert(
            free,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            inputs=[ct.TensorType("x", shape=(ct.RangeDim(1, 4, default=2), 3))],
            skip_model_load=True,
            compute_precision=ct.precision.FLOAT32,
        )
        model.save(str(tmp_path / "free.mlpackage"))
        del model
    evaluator = Evaluator(tmp_path / "free.mlpackage")
    for count in (1, 2, 4):
        assert evaluator.predict({"x": np.ones((count, 3), np.float32)})["y"].shape == (count, 1, 3)
    with pytest.raises(BadInput, match="shape"):
        evaluator.predict({"x": np.ones((5, 3), np.float32)})


COMPRESSIONS = {
    "int8": ("iOS17", lambda cto: cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8")),
    "uint8": ("iOS17", lambda cto: cto.OpLinearQuantizerConfig(mode="linear", dtype="uint8")),
    "palette 8": ("iOS17", lambda cto: cto.OpPalettizerConfig(mode="uniform", nbits=8)),
    "palette 6": ("iOS17", lambda cto: cto.OpPalettizerConfig(mode="uniform", nbits=6)),
    "palette 4": ("iOS17", lambda cto: cto.OpPalettizerConfig(mode="uniform", nbits=4)),
    "sparse": ("iOS17", lambda cto: cto.OpMagnitudePrunerConfig(target_sparsity=0.5)),
    "int8, iOS 18": ("iOS18", lambda cto: cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8")),
    "int4 in blocks": (
        "iOS18",
        lambda cto: cto.OpLinearQuantizerConfig(
            mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=16
        ),
    ),
    "palette 4, iOS 18": ("iOS18", lambda cto: cto.OpPalettizerConfig(mode="uniform", nbits=4)),
    "palette 3 in groups": (
        "iOS18",
        lambda cto: cto.OpPalettizerConfig(
            mode="uniform", nbits=3, granularity="per_grouped_channel", group_size=8
        ),
    ),
    "sparse, iOS 18": ("iOS18", lambda cto: cto.OpMagnitudePrunerConfig(target_sparsity=0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_weights_are_those_that_coremltools_decompresses(tmp_path, name):
    import coremltools.optimize.coreml as cto

    target, config = COMPRESSIONS[name]
    weight, kernel = rng().normal(size=(32, 64)).astype(np.float32), rng(1).normal(size=(32, 32, 3)).astype(np.float32)
    made = program(
        {"x": np.zeros((1, 5, 64), np.float32)},
        lambda x: mb.conv(x=mb.transpose(x=mb.linear(x=x, weight=weight), perm=[0, 2, 1]), weight=kernel, name="y"),
        target=getattr(ct.target, target),
    )
    path = save(made, tmp_path / "plain.mlpackage", target=getattr(ct.target, target))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = ct.models.MLModel(str(path), skip_model_load=True)
        settings = cto.OptimizationConfig(global_config=config(cto))
        work = {cto.OpPalettizerConfig: cto.palettize_weights, cto.OpMagnitudePrunerConfig: cto.prune_weights}
        small = work.get(type(settings.global_config), cto.linear_quantize_weights)(plain, settings)
        small.save(str(tmp_path / "small.mlpackage"))
        cto.decompress_weights(small).save(str(tmp_path / "again.mlpackage"))
        del plain, small
    x = rng(2).normal(size=(1, 5, 64)).astype(np.float32)
    small_one, again, exact = (
        Evaluator(tmp_path / f"{which}.mlpackage").predict({"x": x})["y"] for which in ("small", "again", "plain")
    )
    np.testing.assert_array_equal(small_one, again)
    assert np.abs(small_one - exact).max() > 0
    kinds = {
        one.type
        for one in body(
            ct.models.MLModel(str(tmp_path / "small.mlpackage"), skip_model_load=True).get_spec()
        ).operations
    }
    assert any(kind.startswith("constexpr_") for kind in kinds)


def test_an_unknown_operation_is_an_error_and_never_a_pass(copied):
    def change(spec):
        body(spec).operations[-1].type = "enhance"

    with pytest.raises(Unsupported, match="operation enhance, which the evaluator does not know"):
        Evaluator(rewritten(copied, change))


def test_an_unknown_parameter_is_an_error(copied):
    def change(spec):
        body(spec).operations[-1].inputs["strength"].arguments.add().name = "x"

    with pytest.raises(Unsupported, match="relu has the parameter strength"):
        Evaluator(rewritten(copied, change))


def test_a_result_of_another_shape_or_type_than_declared_is_an_error(simple, tmp_path):
    x = {"x": np.ones((1, 4), np.float32)}

    def shape(spec):
        body(spec).operations[-1].outputs[0].type.tensorType.dimensions[1].constant.size = 4

    def dtype(spec):
        body(spec).operations[-1].outputs[0].type.tensorType.dataType = ct.proto.MIL_pb2.DataType.INT32

    for name, change, message in (
        ("a", shape, r"relu y made \[1, 3\] where fp32 \[1, 4\]"),
        ("b", dtype, "made float32"),
    ):
        package = shutil.copytree(simple, tmp_path / f"{name}.mlpackage")
        with pytest.raises(InferenceError, match=message):
            Evaluator(rewritten(package, change)).predict(x)


def test_a_damaged_package_is_a_load_error(copied, tmp_path):
    (weights,) = copied.rglob("weight.bin")
    whole = weights.read_bytes()
    for damage in (whole[:70], whole[:64] + bytes(64) + whole[128:]):
        weights.write_bytes(damage)
        with pytest.raises(LoadError, match="weight"):
            Evaluator(copied)
    weights.unlink()
    with pytest.raises(LoadError, match="weight"):
        Evaluator(copied)
    (model,) = copied.rglob("*.mlmodel")
    model.write_bytes(b"\xff" * 50)
    with pytest.raises(LoadError, match="no Core ML model"):
        Evaluator(copied)
    (copied / "Manifest.json").write_text("{}")
    with pytest.raises(LoadError, match="no whole package"):
        Evaluator(copied)
    with pytest.raises(BadInput, match="no Core ML model"):
        Evaluator(tmp_path / "nothing.mlpackage")


def test_weights_outside_the_package_are_not_read(copied):
    def change(spec):
        for one in body(spec).operations:
            for value in one.attributes.values():
                if value.WhichOneof("value") == "blobFileValue":
                    value.blobFileValue.fileName = "@model_path/../../../../secret.bin"

    with pytest.raises(LoadError, match="outside"):
        Evaluator(rewritten(copied, change))


def test_what_is_read_before_it_is_made_is_damage(copied):
    def change(spec):
        body(spec).operations[-1].inputs["x"].arguments[0].name = "later"

    with pytest.raises(LoadError, match="reads later before it is made"):
        Evaluator(rewritten(copied, change))


def test_wrong_inputs_are_named(simple):
    evaluator = Evaluator(simple)
    with pytest.raises(BadInput, match="lacks its input 'x'"):
        evaluator.predict({})
    with pytest.raises(BadInput, match="no input 'z'"):
        evaluator.predict({"x": np.ones((1, 4), np.float32), "z": np.ones(1)})
    with pytest.raises(BadInput, match=r"shape \[1, 5\]"):
        evaluator.predict({"x": np.ones((1, 5), np.float32)})
    with pytest.raises(BadInput, match="int64"):
        evaluator.predict({"x": np.ones((1, 4), np.int64)})


def test_another_kind_of_model_is_unsupported(copied):
    def change(spec):
        spec.neuralNetwork.SetInParent()

    with pytest.raises(Unsupported, match="neuralNetwork"):
        Evaluator(rewritten(copied, change))
