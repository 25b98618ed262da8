"""Whisper checkpoints become an encoder and a cached decoder that compute what the same checkpoint does in ONNX."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import save_file

from llama_pajamas_run_core.artifacts.formats import identify
from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.whisper.cache import Places
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_coreml.description import WhisperDecoderDescription, WhisperEncoderDescription, from_metadata
from llama_pajamas_run_coreml.evaluate.evaluator import Evaluator
from llama_pajamas_run_coreml.export import ExportOptions, export
from llama_pajamas_run_coreml.export.whisper.checkpoint import WhisperCheckpoint, sinusoids
from llama_pajamas_run_coreml.export.whisper.plan import plan_whisper
from llama_pajamas_run_coreml.interface import read_model
from llama_pajamas_run_onnx.export import export as export_onnx

#: Decoder and encoder differ in everything, so that nothing is taken from the wrong one.
SIZES = Dimensions(80, 24, 12, 3, 2, 51865, 20, 8, 2, 3)
HEADS = ((1, 0), (2, 0), (2, 1))
TOKENS = np.array([[50258, 50259, 50359, 300, 1000, 2000, 50257]], np.int32)


def checkpoint(folder: Path, sizes: Dimensions = SIZES, *, shards: bool = False, **config: Any) -> Path:
    """A random checkpoint in Hugging Face's layout."""
    random = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int, scale: float = 0.3, about: float = 0.0) -> None:
        tensors[f"model.{name}"] = (about + scale * random.standard_normal(shape)).astype(np.float32)

    def layer(name: str, width: int, attentions: Sequence[str], seen: int) -> None:
        for attention in attentions:
            for part in "qkv":
                inner = seen if attention == "encoder_attn" and part != "q" else width
                add(f"{name}.{attention}.{part}_proj.weight", width, inner)
            for part in "qv":
                add(f"{name}.{attention}.{part}_proj.bias", width)
            add(f"{name}.{attention}.out_proj.weight", width, width)
            add(f"{name}.{attention}.out_proj.bias", width)
        for linear, shape in (("fc1", (4 * width, width)), ("fc2", (width, 4 * width))):
            add(f"{name}.{linear}.weight", *shape)
            add(f"{name}.{linear}.bias", shape[0])
        for norm in (*(f"{attention}_layer_norm" for attention in attentions), "final_layer_norm"):
            add(f"{name}.{norm}.weight", width, about=1)
            add(f"{name}.{norm}.bias", width)

    heard, said = sizes.n_audio_state, sizes.n_text_state
    for index, inner in enumerate((sizes.n_mels, heard)):
        add(f"encoder.conv{index + 1}.weight", heard, inner, 3)
        add(f"encoder.conv{index + 1}.bias", heard)
    tensors["model.encoder.embed_positions.weight"] = sinusoids(sizes.n_audio_ctx, heard)
    for index in range(sizes.n_audio_layer):
        layer(f"encoder.layers.{index}", heard, ["self_attn"], heard)
    add("decoder.embed_tokens.weight", sizes.n_vocab, said)
    add("decoder.embed_positions.weight", sizes.n_text_ctx, said)
    for index in range(sizes.n_text_layer):
        layer(f"decoder.layers.{index}", said, ["self_attn", "encoder_attn"], heard)
    for part, width in (("encoder", heard), ("decoder", said)):
        add(f"{part}.layer_norm.weight", width, about=1)
        add(f"{part}.layer_norm.bias", width)
    folder.mkdir(parents=True)
    _write(folder, tensors, shards)
    told = {
        "model_type": "whisper", "dimensions": {name: getattr(sizes, name) for name in sizes.__slots__},
        "alignment_heads": HEADS, **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def _write(folder: Path, tensors: Mapping[str, np.ndarray], shards: bool) -> None:
    if not shards:
        save_file(dict(tensors), folder / "model.safetensors")
        return
    names = sorted(tensors)
    places = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("whisper") / "checkpoint")


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, SIZES.n_mels, 2 * SIZES.n_audio_ctx)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(source: Path, mel: np.ndarray) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of the same checkpoint: caches as [layers, heads, places, width], logits and scores."""
    folder = export_onnx(source, source.parent / "onnx")
    runs = {}
    for name in ("encoder", "decoder"):
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        runs[name] = lambda feeds, session=session: dict(
            zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True)
        )
    heard = runs["encoder"]({"mel": mel})
    places = Places.of(0, TOKENS.shape[1], SIZES.n_text_ctx)
    feeds = {"tokens": TOKENS, "positions": places.positions, "write": places.write, "mask": places.mask, **heard}
    width = SIZES.n_text_state // SIZES.n_text_head
    for index in range(SIZES.n_text_layer):
        feeds[f"key_{index}"] = np.zeros((1, SIZES.n_text_head, width, SIZES.n_text_ctx), np.float32)
        feeds[f"value_{index}"] = feeds[f"key_{index}"].swapaxes(2, 3).copy()
    said = runs["decoder"](feeds)
    layers = range(SIZES.n_text_layer)
    return {
        "cross_keys": np.stack([heard[f"cross_key_{index}"][0].swapaxes(1, 2) for index in layers]),
        "cross_values": np.stack([heard[f"cross_value_{index}"][0] for index in layers]),
        "logits": said["logits"][0],
        "scores": said["scores"][0],
    }


def read(folder: Path, audio: Mapping[str, np.ndarray], pieces: Sequence[tuple[int, int]]) -> tuple[Any, Any]:
    """Logits and scores of all tokens, taken up in pieces of (tokens, tokens with those that fill up)."""
    decoder = Evaluator(folder / "decoder.mlpackage")
    names = {one.name for one in decoder.interface.inputs}
    state = None if "keys" in names else decoder.make_state()
    shape = (SIZES.n_text_layer, SIZES.n_text_head, SIZES.n_text_ctx, SIZES.n_text_state // SIZES.n_text_head)
    cache = {name: np.zeros(shape, np.float32) for name in ("keys", "values")} if "keys" in names else {}
    past, scores, made = 0, [], {}
    for count, filled in pieces:
        tokens = np.full((1, filled), 7, np.int32)
        tokens[:, :count] = TOKENS[:, past : past + count]
        feeds = {
            "tokens": tokens,
            "position": np.array([past], np.int32),
            "last": np.array([count - 1], np.int32),
            **audio,
            **cache,
        }
        made = decoder.predict(feeds, state)
        for name, kept in cache.items():
            kept[:, :, past : past + count] = made[f"new_{name}"][:, :, :count]
        scores.append(made["scores"][:, :count])
        past += count
    return made["logits"][0], np.concatenate(scores, axis=1)


def check_what_they_say(folder: Path, *, stateful: bool) -> None:
    encoder, decoder = (read_model(folder / f"{name}.mlpackage") for name in ("encoder", "decoder"))
    first, second = from_metadata(encoder.metadata, "encoder"), from_metadata(decoder.metadata, "decoder")
    assert isinstance(first, WhisperEncoderDescription)
    assert isinstance(second, WhisperDecoderDescription)
    assert first.sizes == second.sizes == SIZES
    assert first.origin == second.origin
    assert second.alignment_heads == HEADS
    assert second.stateful is stateful
    assert second.counts == (1, 4, 16)
    interface = decoder.interfaces["main"]
    cache = {"keys": (3, 2, 20, 4), "values": (3, 2, 20, 4)}
    assert {one.name: one.shape for one in interface.states} == (cache if stateful else {})
    assert interface.inputs[0].shapes == ((1, 1), (1, 4), (1, 16))


@pytest.mark.parametrize(
    ("target", "precision"),
    [
        ("macos14", "float32"),
        ("ios18", "float16"),
        pytest.param("macos14", "float16", marks=pytest.mark.slow),
        pytest.param("ios18", "float32", marks=pytest.mark.slow),
    ],
)
def test_the_same_as_in_onnx(tmp_path, source, mel, expected, target, precision):
    options = ExportOptions(target=target, precision=precision, measure=False)

    made = export(source, tmp_path / "made", options)

    folder = tmp_path / "made"
    assert [one.path.name for one in made] == ["encoder.mlpackage", "decoder.mlpackage"]
    assert identify(folder).name == "coreml-whisper"
    close = {"rtol": 1e-4, "atol": 2e-4} if precision == "float32" else {"rtol": 0.02, "atol": 0.03}
    audio = Evaluator(folder / "encoder.mlpackage").predict({"mel": mel})
    assert audio["cross_keys"].dtype == np.dtype(precision)
    for name in ("cross_keys", "cross_values"):
        np.testing.assert_allclose(audio[name].astype(np.float32), expected[name], **close)
    loose = {"rtol": 0.02, "atol": 0.03} if target == "ios18" else close  # states are always in float16
    for pieces in ([(7, 16)], [(3, 4), *[(1, 1)] * 4], [(4, 4), (2, 4), (1, 1)]):
        logits, scores = read(folder, audio, pieces)
        np.testing.assert_allclose(logits, expected["logits"], **loose)
        np.testing.assert_allclose(scores, expected["scores"], **loose)
        assert logits.argmax() == expected["logits"].argmax()
    check_what_they_say(folder, stateful=target == "ios18")


def test_the_change_is_measured(tmp_path, source):
    encoder, decoder = export(source, tmp_path / "made", ExportOptions(compression="int8"))

    assert encoder.change is not None
    assert encoder.change.cosine > 0.999
    assert decoder.change is not None
    assert decoder.change.places == 16
    assert decoder.change.cosine > 0.999
    assert decoder.bytes < 0.8 * decoder.plain_bytes  # a scale for each 8 weights, and all else
    assert "tokens, cosine 0.999" in str(decoder) or "tokens, cosine 1.000" in str(decoder)


def test_a_cache_is_no_state_where_that_is_asked_for(source):
    plans = plan_whisper(source, ExportOptions(target="ios18", stateful=False))

    _, declared = plans.decoder.program("float32")

    assert [one.name for one in declared][-2:] == ["keys", "values"]
    assert plans.decoder.description.stateful is False


def test_shards_and_other_names(tmp_path, source):
    whole, parts = WhisperCheckpoint(source), WhisperCheckpoint(checkpoint(tmp_path / "shards", shards=True))

    assert [path.name for path in parts.files] == ["part-0.safetensors", "part-1.safetensors"]
    for name in ("encoder.conv1.weight", "decoder.layers.2.encoder_attn.k_proj.weight"):
        np.testing.assert_array_equal(whole.tensor(name), parts.tensor(name))
    assert not whole.linear("decoder.layers.0.self_attn.k_proj")[1].any()


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"model_type": "bert"}, Unsupported, "model_type 'bert'.*exported to ONNX first"),
        ({"activation_function": "relu"}, Unsupported, "activation 'relu'"),
        ({"alignment_heads": [[9, 9]]}, LoadError, "heads that the decoder does not have"),
    ],
)
def test_checkpoints_that_are_refused(tmp_path, config, error, message):
    small = Dimensions(80, 4, 4, 1, 1, 8, 4, 4, 1, 1)
    folder = checkpoint(tmp_path / "checkpoint", small, **{"alignment_heads": [[0, 0]], **config})

    with pytest.raises(error, match=message):
        export(folder, tmp_path / "made")


def test_a_folder_is_named_for_two_packages(tmp_path, source):
    with pytest.raises(BadInput, match="would hold two packages"):
        export(source, tmp_path / "made.mlpackage")
