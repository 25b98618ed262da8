"""``llama-pajamas export coreml``."""

import numpy as np
import pytest
import typer
from support.onnx_graphs import colour_meter
from typer.testing import CliRunner

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_run_coreml import RUNTIME
from llama_pajamas_run_coreml.description import from_metadata
from llama_pajamas_run_coreml.export_command import export_coreml
from llama_pajamas_run_coreml.interface import read_model

BY_HAND = ("--task", "classify", "--mean", "0.5", "--std", "0.2,0.3,0.4")


def command(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(export_coreml)
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_option_arrives(tmp_path):
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    np.save(tmp_path / "shown.npy", np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3)).astype(np.uint8))
    path = colour_meter(tmp_path / "model.onnx", size="side")

    said = command(
        path, tmp_path / "m.mlpackage", *BY_HAND, "--labels", tmp_path / "names.txt", "--size", "32x48",
        "--target", "ios18", "--precision", "float32", "--batches", "1-3", "--resize", "stretch",
        "--pictures", tmp_path / "shown.npy",
    )  # fmt: skip

    about = from_metadata(read_model(tmp_path / "m.mlpackage").metadata, "m")
    assert about.spec.labels == ("red", "green", "blue")
    assert (about.spec.width, about.spec.height, about.spec.resize) == (32, 48, "stretch")
    assert (about.spec.mean, about.spec.std) == ((0.5, 0.5, 0.5), (0.2, 0.3, 0.4))
    assert (about.origin.target, about.origin.precision, about.batches) == ("ios18", "float32", (1, 2, 3))
    assert "the same at 100.0% of 2 pictures, cosine 1.00000" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "huge"], "size is like 640"),
        (["--mean", "grey"], "mean is like 0.5"),
        (["--batches", "many"], "batches are like"),
        (["--pictures", "none.npy"], "holds no pictures"),
    ],
)
def test_what_cannot_be_read(tmp_path, arguments, message):
    path = colour_meter(tmp_path / "model.onnx")

    with pytest.raises(BadInput, match=message):
        command(path, tmp_path / "m.mlpackage", *arguments)


def test_the_runtime_knows_its_command():
    assert RUNTIME.commands["export"] == f"{export_coreml.__module__}:{export_coreml.__name__}"
    assert RUNTIME.rooms[Task.VISION].formats == ("coreml",)
