"""Hand-made Piper and Kokoro voices: every phoneme becomes a tone, whose pitch is told by the speaker or the voice."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from support.onnx_graphs import save

#: Samples that a phoneme lasts at the normal pace.
SAMPLES = 1024
_PHONEMES = "abdefhijklmnoprstuvwzæðŋɐɑɒɔəɚɛɜɡɪɹɾʃʊʌʒθᵻˈˌː .,!?"


def _tone(count: str, step: str, output: str) -> list:
    """``count`` float samples of a sine whose phase grows by ``step``."""
    return [
        helper.make_node("Range", ["zero", count, "one"], ["places"]),
        helper.make_node("Mul", ["places", step], ["phases"]),
        helper.make_node("Sin", ["phases"], ["waves"]),
        helper.make_node("Mul", ["waves", "half"], [output]),
    ]


def _constants() -> dict[str, np.ndarray]:
    return {
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "each": np.array(SAMPLES, np.float32),
        "scalar": np.zeros(0, np.int64),
    }


def piper(
    path: Path, *, rate: int = 22_050, speakers: tuple[str, ...] = (), hertz: float = 200.0, language: str = "en_US"
) -> Path:
    """A Piper voice: each further speaker is a fifth higher."""
    nodes = [
        helper.make_node("Cast", ["input_lengths"], ["phonemes"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["scales", "at1", "at2"], ["length_scale"]),
        helper.make_node("Mul", ["phonemes", "length_scale"], ["stretched"]),
        helper.make_node("Mul", ["stretched", "each"], ["samples"]),
        helper.make_node("Reshape", ["samples", "scalar"], ["count"]),
    ]
    inputs = {
        "input": (TensorProto.INT64, ["batch", "phonemes"]),
        "input_lengths": (TensorProto.INT64, ["batch"]),
        "scales": (TensorProto.FLOAT, [3]),
    }
    constants = _constants() | {
        "at1": np.array([1], np.int64),
        "at2": np.array([2], np.int64),
        "shape": np.array([1, 1, 1, -1], np.int64),
        "step": np.array(2 * np.pi * hertz / rate, np.float32),
    }
    step = "step"
    if speakers:
        inputs["sid"] = (TensorProto.INT64, ["batch"])
        constants["fifth"] = np.array(1.5, np.float32)
        nodes += [
            helper.make_node("Cast", ["sid"], ["speaker"], to=TensorProto.FLOAT),
            helper.make_node("Pow", ["fifth", "speaker"], ["higher"]),
            helper.make_node("Mul", ["step", "higher"], ["spoken"]),
        ]
        step = "spoken"
    nodes += _tone("count", step, "sound")
    nodes.append(helper.make_node("Reshape", ["sound", "shape"], ["output"]))
    save(path, nodes, inputs, {"output": ["batch", 1, 1, "samples"]}, constants)
    ids = {phoneme: [index + 3] for index, phoneme in enumerate(_PHONEMES)}
    config = {
        "audio": {"sample_rate": rate, "quality": "medium"},
        "espeak": {"voice": language.lower().replace("_", "-")},
        "language": {"code": language},
        "phoneme_type": "espeak",
        "num_symbols": 256,
        "num_speakers": max(1, len(speakers)),
        "speaker_id_map": {name: index for index, name in enumerate(speakers)},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_id_map": ids | {"_": [0], "^": [1], "$": [2]},
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(config))
    return path


def kokoro(folder: Path, voices: dict[str, float] | None = None) -> Path:
    """Kokoro's graph and its file of voices, by name with the pitch in hertz."""
    rate = 24_000
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "at1", "at2"], ["length"]),
        helper.make_node("Cast", ["length"], ["phonemes"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["phonemes", "speed"], ["stretched"]),
        helper.make_node("Mul", ["stretched", "each"], ["samples"]),
        helper.make_node("Reshape", ["samples", "scalar"], ["count"]),
        helper.make_node("ReduceMax", ["style"], ["hertz"], keepdims=0),
        helper.make_node("Mul", ["hertz", "radians"], ["step"]),
        *_tone("count", "step", "audio"),
    ]
    inputs = {
        "input_ids": (TensorProto.INT64, [1, "phonemes"]),
        "style": (TensorProto.FLOAT, [1, 256]),
        "speed": (TensorProto.FLOAT, [1]),
    }
    constants = _constants() | {
        "at1": np.array([1], np.int64),
        "at2": np.array([2], np.int64),
        "radians": np.array(2 * np.pi / rate, np.float32),
    }
    save(folder / "kokoro.onnx", nodes, inputs, {"audio": ["samples"]}, constants)
    voices = voices or {"af_alloy": 220.0, "af_heart": 200.0, "am_onyx": 110.0, "bf_emma": 240.0, "ff_siwis": 210.0}
    arrays = {name: np.full((510, 1, 256), pitch, np.float32) for name, pitch in voices.items()}
    with (folder / "voices-v1.0.bin").open("wb") as file:
        np.savez(file, **arrays)
    return folder
