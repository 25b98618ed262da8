"""Image and text encoders together: engines of both, built of ONNX graphs or lying in one folder."""

from pathlib import Path

import numpy as np
import pytest
from support import onnx_graphs

import llama_pajamas_starter
from llama_pajamas_run_core.errors import TooLarge, Unsupported
from llama_pajamas_run_core.types.vision import Image
from llama_pajamas_run_onnx import ONNXVisionBackend
from llama_pajamas_run_tensorrt.export.options import BuildOptions

EMBED = Path(llama_pajamas_starter.__file__).parent / "models" / "embed"
TEXTS = ["a red car", "two blue fish", "a green tree"] * 12


def answers(backend):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 80, 100, 3), np.uint8)
    return backend.embed([Image(one) for one in pixels]), backend.embed_text(TEXTS)


@pytest.fixture(scope="module")
def wanted():
    with ONNXVisionBackend(EMBED) as backend:
        return answers(backend)


def agree(made, wanted):
    for one, other in zip(made, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_the_engines_of_a_pair_of_graphs(stand_in, wanted):
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    with TensorRTVisionBackend(EMBED, preprocess="cpu", precision="fp32", batch="1:2:4") as backend:
        assert backend.spec.tasks == {"embed", "embed_text"}
        agree(answers(backend), wanted)
    assert stand_in.cuda.state.allocated == 0


def test_a_folder_of_engines(stand_in, wanted, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    export_model(EMBED, tmp_path / "embed", BuildOptions(precision="fp32", batch=(1, 2, 4)))
    with TensorRTVisionBackend(tmp_path / "embed", preprocess="cpu") as backend:
        agree(answers(backend), wanted)
    with TensorRTVisionBackend(tmp_path / "embed" / "image.engine", preprocess="cpu") as backend:
        assert "embed_text" in backend.spec.tasks
    (tmp_path / "embed" / "tokenizer.json").unlink()
    with TensorRTVisionBackend(tmp_path / "embed", preprocess="cpu") as backend:
        assert backend.spec.tasks == {"embed"}
        with pytest.raises(Unsupported, match="does not embed text"):
            backend.embed_text(["a red car"])


def test_without_what_cuts_texts_images_alone_are_embedded(stand_in, tmp_path, monkeypatch, caplog):
    from llama_pajamas_run_tensorrt import texts
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    monkeypatch.setattr(texts, "find_spec", lambda name: None)
    with TensorRTVisionBackend(EMBED, preprocess="cpu", precision="fp32", batch="1:2:4") as backend:
        assert backend.spec.tasks == {"embed"}
    assert "embeds no texts: the package tokenizers is not installed" in caplog.text


def test_options_of_the_session_are_the_text_engines_too(stand_in):
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    with TensorRTVisionBackend(EMBED, preprocess="cpu", precision="fp32", batch="1:2:4", graphs=False) as backend:
        for _ in range(3):
            backend.embed_text(TEXTS[:2])
        texts = backend._texts[0]
        assert texts.details["graphs"] == "off"
        assert backend.details["memory"] == backend._session.memory + texts.memory
    assert stand_in.driver.launches == 0


def test_hugging_faces_layout_becomes_a_folder_of_engines(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.export.make import export_model
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    pair(tmp_path / "model", "onnx")
    options = BuildOptions(precision="fp32", batch=(1, 2, 4), dims={"length": (1, 4, 8)})
    export_model(tmp_path / "model", tmp_path / "engines", options)
    with TensorRTVisionBackend(tmp_path / "engines", preprocess="cpu") as backend:
        np.testing.assert_allclose(backend.embed_text(["red"]), [[1, 0, 0]], atol=1e-6)


def pair(folder, graphs="."):
    """Encoders of colours and their names as Hugging Face's tools write them; the graphs may have their own folder."""
    onnx_graphs.colour_meter(folder / graphs / "vision_model.onnx", output="image_embeds")
    onnx_graphs.word_meter(folder / graphs / "text_model.onnx", onnx_graphs.WORD_VECTORS)
    onnx_graphs.word_tokenizer(folder / "tokenizer.json")
    (folder / "config.json").write_text('{"model_type": "clip", "text_config": {"max_position_embeddings": 8}}')
    size = '{"crop_size": 64, "size": 64, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    (folder / "preprocessor_config.json").write_text(size)


def test_any_number_of_tokens_up_to_the_models(stand_in, tmp_path):
    from llama_pajamas_run_tensorrt.vision import TensorRTVisionBackend

    pair(tmp_path)
    with TensorRTVisionBackend(tmp_path, preprocess="cpu", precision="fp32") as backend:
        made = backend.embed_text(["red", "a blue square", "two green circles"])
        np.testing.assert_allclose(made, np.eye(3)[[0, 2, 1]], atol=1e-6)
        with pytest.raises(TooLarge, match="the model reads 8"):
            backend.embed_text(["red " * 9])
