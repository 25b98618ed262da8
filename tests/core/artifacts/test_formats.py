"""What files and folders are, told from their bytes."""

import contextlib
import json
import random
from pathlib import Path

import pytest
from support.model_files import (
    npz_bytes,
    onnx_bytes,
    safetensors_bytes,
    whisper_tensors,
    write_ggml_whisper,
    write_gguf,
)

from llama_pajamas_run_core.artifacts.formats import (
    FORMATS,
    check_ggml_whisper,
    check_onnx,
    check_safetensors,
    identify,
    size_of,
)
from llama_pajamas_run_core.artifacts.onnx import vision_abilities
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.runtimes.discovery import discover
from llama_pajamas_run_core.types.tasks import Task


def test_rooms_name_known_formats_of_their_task():
    for info in discover():
        for task, room in info.rooms.items():
            assert room.formats
            assert {FORMATS[name].task for name in room.formats} == {task}


# whisper.cpp


def test_a_whole_whisper_file(tmp_path):
    path = write_ggml_whisper(tmp_path / "model.bin")
    header = check_ggml_whisper(path)
    assert (header.n_vocab, header.n_text_layer, header.multilingual) == (51_864, 2, False)
    assert header.tensors == len(whisper_tensors(1, 2))
    assert identify(path).name == "ggml-whisper"
    assert check_ggml_whisper(write_ggml_whisper(path, n_vocab=51_865)).multilingual


def test_cut_whisper_files(tmp_path):
    path = write_ggml_whisper(tmp_path / "model.bin")
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    with pytest.raises(LoadError, match=rf"ends at {len(data) - 4:,} bytes, the tensor decoder.* needs {len(data):,}"):
        check_ggml_whisper(path)
    for length in [*range(0, 100, 3), *range(100, len(data), 1009)]:
        path.write_bytes(data[:length])
        with pytest.raises((LoadError, BadInput)) as raised:
            check_ggml_whisper(path)
        assert str(path) in str(raised.value)


def test_whisper_files_that_would_crash_whisper_cpp(tmp_path):
    path = tmp_path / "model.bin"
    with pytest.raises(LoadError, match="it holds 70 of the 74 tensors"):
        check_ggml_whisper(write_ggml_whisper(path, drop=4))
    with pytest.raises(LoadError, match="n_vocab is 600"):
        check_ggml_whisper(write_ggml_whisper(path, n_vocab=600))
    with pytest.raises(LoadError, match="n_audio_state 64 is not a multiple of n_audio_head 3"):
        check_ggml_whisper(write_ggml_whisper(path, heads=3))
    with pytest.raises(LoadError, match="n_audio_head is 0"):
        check_ggml_whisper(write_ggml_whisper(path, heads=0))
    path.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(BadInput, match=r"no whisper\.cpp file"):
        check_ggml_whisper(path)


# ONNX


def test_onnx_files(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(metadata={"task": "detect", "names": "{0: 'cat'}"}))
    assert check_onnx(path).metadata == {"task": "detect", "names": "{0: 'cat'}"}
    assert identify(path).name == "onnx-vision"
    data = path.read_bytes()
    graph_end = len(onnx_bytes()) - 4  # then come fields that a model may lack
    for length in range(1, graph_end):
        path.write_bytes(data[:length])
        with pytest.raises((LoadError, BadInput)):
            check_onnx(path)


@pytest.mark.parametrize(
    ("graphs", "model_type", "expected"),
    [
        (("encoder", "decoder"), "whisper", "onnx-whisper"),
        (("onnx/encoder_model", "onnx/decoder_model_merged"), "whisper", "onnx-whisper"),
        (("encoder_model_fp16", "decoder_model_fp16", "decoder_with_past_model_fp16"), "whisper", "onnx-whisper"),
        (("encoder_model", "decoder_model"), "t5", "onnx-vision"),
        (("encoder",), "whisper", "onnx-vision"),
    ],
)
def test_whisper_in_onnx(tmp_path, graphs, model_type, expected):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    for graph in graphs:
        (tmp_path / graph).parent.mkdir(exist_ok=True)
        (tmp_path / f"{graph}.onnx").write_bytes(onnx_bytes())
    assert identify(tmp_path).name == expected
    (tmp_path / f"{graphs[-1]}.onnx").write_bytes(onnx_bytes()[:-3])
    with pytest.raises(LoadError, match=f"{graphs[-1]}.onnx"):
        identify(tmp_path)


def test_weights_beside_an_onnx_file(tmp_path):
    path, weights = tmp_path / "model.onnx", tmp_path / "model.safetensors"
    path.write_bytes(onnx_bytes(external=("model.safetensors", 100, 32)))
    with pytest.raises(LoadError, match=r"keeps its weights in model\.safetensors, which is missing"):
        identify(path)
    weights.write_bytes(bytes(131))
    with pytest.raises(LoadError, match=r"ends at 131 bytes, but model\.onnx needs 132"):
        identify(path)
    weights.write_bytes(bytes(132))
    assert identify(path).name == "onnx-vision"
    assert check_onnx(path).external == (weights,)
    assert size_of(path) == path.stat().st_size + 132


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "C:x", "..\\x", "\\x"])
def test_weights_may_not_lie_outside(tmp_path, place):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(external=(place, 0, 4)))
    with pytest.raises(LoadError, match="outside its own folder"):
        check_onnx(path)


def test_voices(tmp_path):
    piper = tmp_path / "piper"
    piper.mkdir()
    (piper / "en.onnx").write_bytes(onnx_bytes())
    (piper / "en.onnx.json").write_text("{}")
    assert identify(piper / "en.onnx").name == identify(piper).name == "piper"
    kokoro = tmp_path / "kokoro"
    kokoro.mkdir()
    (kokoro / "kokoro-v1.0.onnx").write_bytes(onnx_bytes())
    (kokoro / "voices-v1.0.bin").write_bytes(npz_bytes())
    assert identify(kokoro).name == identify(kokoro / "kokoro-v1.0.onnx").name == "kokoro"
    assert size_of(kokoro) == sum(file.stat().st_size for file in kokoro.iterdir())


# safetensors and folders of checkpoints


def test_safetensors_files(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes(metadata={"format": "pt"}))
    assert check_safetensors(path) == {"format": "pt"}
    assert identify(path).name == "safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(LoadError, match=f"ends at {len(data) - 1} bytes, the tensor weight needs {len(data)}"):
        identify(path)
    path.write_bytes(data.replace(b'"F32"', b'"F16"'))
    with pytest.raises(LoadError, match="contradicts itself"):
        identify(path)
    endless = b'{"w":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}'
    path.write_bytes(len(endless).to_bytes(8, "little") + endless + bytes(4))
    with pytest.raises(LoadError, match="contradicts itself"):
        identify(path)


def test_json_that_nests_without_end(tmp_path):
    """Python's reader of JSON gives up with an error of its own."""
    deep = b'{"x":' + b"[" * 100_000
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(LoadError, match="its header is no JSON"):
        identify(path)
    path.write_bytes(safetensors_bytes())
    (tmp_path / "config.json").write_bytes(deep)
    with pytest.raises(LoadError, match="config.json is no JSON"):
        identify(tmp_path)
    (tmp_path / "model.onnx").write_bytes(onnx_bytes(metadata={"task": "detect"}))
    assert vision_abilities(tmp_path / "model.onnx") == {"detect"}


def test_turned_boxes_are_no_ability(tmp_path):
    """Loading refuses them, so nothing may promise them."""
    (tmp_path / "model.onnx").write_bytes(onnx_bytes(metadata={"task": "obb"}))
    assert vision_abilities(tmp_path / "model.onnx") == set()


@pytest.mark.parametrize(
    ("config", "metadata", "expected"),
    [
        ({"model_type": "qwen3", "quantization": {"bits": 4}}, {}, "mlx"),
        ({"model_type": "qwen3"}, {"format": "mlx"}, "mlx"),
        ({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}, {"format": "pt"}, "huggingface-llm"),
        ({"architectures": ["ViTForImageClassification"], "model_type": "vit"}, {"format": "pt"}, "huggingface"),
        ({"model_type": "qwen3"}, {"format": "pt"}, "huggingface"),
        ({"n_mels": 80, "n_audio_state": 384}, {}, "mlx-whisper"),
    ],
)
def test_folders_of_checkpoints(tmp_path, config, metadata, expected):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(metadata=metadata))
    assert identify(tmp_path).name == expected
    if expected == "huggingface-llm":
        (tmp_path / "tokenizer.json").unlink()
        assert identify(tmp_path).name == "huggingface"


def test_core_ml_and_tensorrt(tmp_path):
    package = tmp_path / "model.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}")
    assert identify(package).name == "coreml"
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"ftrt" + bytes(60))
    assert identify(engine).name == "tensorrt"
    text = b'{"task": "detect"}'
    engine.write_bytes(len(text).to_bytes(4, "little") + text + b"ftrt" + bytes(60))  # Ultralytics' own wrapping
    assert identify(engine).name == "tensorrt"
    other = tmp_path / "llm"
    other.mkdir()
    (other / "rank0.engine").write_bytes(b"ftrt" + bytes(60))
    assert identify(other).name == "tensorrt"
    for name in ("encoder", "decoder"):
        (other / f"{name}.engine").write_bytes(b"ftrt" + bytes(60))
    assert identify(other).name == "tensorrt-whisper"
    (other / "decoder.engine").write_bytes(b"something else")
    with pytest.raises(BadInput, match="is no model that can be loaded"):
        identify(other)
    (tmp_path / "model.engine.json").write_text('{"description": {"task": "detection"}}')
    assert vision_abilities(engine) == {"detect"}


@pytest.mark.parametrize(
    ("packages", "expected"),
    [(("image", "text"), "coreml"), (("image",), "coreml"), (("encoder", "decoder"), "coreml-whisper")],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_folders_of_core_ml(tmp_path, packages, expected, compiled):
    for name in packages:
        package = tmp_path / f"{name}.{'mlmodelc' if compiled else 'mlpackage'}"
        (package / "Data").mkdir(parents=True)
        (package / ("coremldata.bin" if compiled else "Manifest.json")).write_text("{}")
    assert identify(tmp_path).name == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
        (b"PK\x03\x04" + bytes(60), "zip archive, perhaps a PyTorch checkpoint"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"tjgg" + bytes(60), "before 2023-08"),
        ("Grüße, just text. ".encode() * 10, "its content is text"),
        (bytes(range(128, 228)), "unknown; it begins with"),
    ],
)
def test_what_is_no_model(tmp_path, content, said):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        identify(path)


def test_paths_that_hold_nothing(tmp_path):
    with pytest.raises(BadInput, match="There is no file"):
        identify(tmp_path / "absent")
    with pytest.raises(BadInput, match="it holds nothing"):
        identify(tmp_path)
    write_gguf(tmp_path / "a.gguf")
    with pytest.raises(BadInput, match=r"name the file in it: a\.gguf"):
        identify(tmp_path)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(LoadError, match="is empty"):
        identify(tmp_path / "empty.onnx")
    with pytest.raises(LoadError, match="is no ONNX file, whatever its name says"):
        identify(tmp_path)


def test_noise_never_gives_anything_but_our_errors(tmp_path):
    chance = random.Random(11)
    path = tmp_path / "x"
    whisper = write_ggml_whisper(tmp_path / "w.bin").read_bytes()
    for whole in (onnx_bytes(external=("x", 1, 2)), safetensors_bytes(), whisper):
        for _ in range(150):
            forged = bytearray(whole)
            for _ in range(chance.randint(1, 6)):
                forged[chance.randrange(min(len(forged), 200))] = chance.randrange(256)
            path.write_bytes(forged)
            with contextlib.suppress(LoadError, BadInput):
                identify(path)


def test_the_starter_models_are_what_they_say():
    from llama_pajamas_starter.catalogue import entries

    for entry in entries():
        for artifact in entry.artifacts:
            if entry.task is Task.VISION:
                path = artifact.materialize()
                assert isinstance(path, Path)
                assert identify(path).name == artifact.format
