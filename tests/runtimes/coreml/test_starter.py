"""The starter models in Core ML, computed by the reference evaluator, beside ONNX Runtime and the checkpoint.

A few held-out pictures and sentences by default; ``-m slow`` takes hundreds, and all ways of storing the weights.
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from llama_pajamas_run_core.text.word_errors import word_error_rate
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.vision import Box, Detection, DetectOptions, Image
from llama_pajamas_run_coreml import CoreMLSTTBackend, CoreMLVisionBackend
from llama_pajamas_run_coreml.verify import verify
from llama_pajamas_run_coreml.verify.vision import detections, vectors
from llama_pajamas_run_onnx import ONNXVisionBackend
from llama_pajamas_starter.catalogue import MODELS, entries
from llama_pajamas_starter.speech.data import RATE, padded
from llama_pajamas_starter.speech.evaluate import held_out
from llama_pajamas_starter.vision.evaluate import retrieval_set
from llama_pajamas_starter.vision.scenes import HELD_OUT_SEEDS, scene, single_object


@pytest.fixture
def made(exported):
    """The package of a starter model, or the folder of two."""

    def path(name, compression="none", target="macos14"):
        packages = [one.path for one in exported(name, compression, target)]
        return packages[0] if len(packages) == 1 else packages[0].parent

    return path


def pair(made, name, compression):
    package = made(name, compression)
    return CoreMLVisionBackend(package, compute_units="reference"), ONNXVisionBackend(MODELS / name, threads=1)


def check_detector(made, compression, count):
    pictures = [Image(scene(seed).image) for seed in HELD_OUT_SEEDS[:count]]
    ours, theirs = pair(made, "detect", compression)
    with ours, theirs:
        options = DetectOptions(confidence=0.25)
        findings = detections(theirs.detect(pictures, options), ours.detect(pictures, options))
    assert len(findings) == 3
    assert [str(one) for one in findings if not one.good] == []


def check_classifier(made, compression, count, share):
    pictures = [Image(single_object(seed).image) for seed in HELD_OUT_SEEDS[:count]]
    ours, theirs = pair(made, "classify", compression)
    with ours, theirs:
        pairs = zip(ours.classify(pictures, top=1), theirs.classify(pictures, top=1), strict=True)
        same = [one[0].class_id == other[0].class_id for one, other in pairs]
    assert np.mean(same) >= share


def check_embedder(made, compression, count):
    pairs = retrieval_set(count)
    ours, theirs = pair(made, "embed", compression)
    with ours, theirs:
        pictures, texts = [picture for picture, _ in pairs], [text for _, text in pairs]
        (seen,) = vectors("picture", theirs.embed(pictures), ours.embed(pictures))
        (read,) = vectors("text", theirs.embed_text(texts), ours.embed_text(texts))
    assert min(seen.value, read.value) >= 0.999


def check_speech(made, compression, count, target):
    """The word error rate is that of the checkpoint in whisper.cpp."""
    from llama_pajamas_run_gguf import GGUFSTTBackend

    spoken = held_out(count, 50_000)
    heard = [(one.text, Audio(padded(one.waveform(), 0.3, 0.3), RATE)) for one in spoken]
    (entry,) = (one for one in entries() if one.id == "starter-speech")
    reference = next(one for one in entry.artifacts if one.format == "ggml-whisper").materialize()
    rates = []
    for backend in (
        CoreMLSTTBackend(made("speech", compression, target), compute_units="reference"),
        GGUFSTTBackend(reference, short_context=True),
    ):
        with backend:
            texts = [backend.transcribe(audio).text for _, audio in heard]
        rates.append(word_error_rate([(text, said) for (text, _), said in zip(heard, texts, strict=True)]))
    assert rates[0] == pytest.approx(rates[1], abs=0.005)
    assert rates[0] <= 0.05


@pytest.mark.parametrize("compression", ["none", "int8"])
def test_the_detector_finds_the_same_boxes(made, compression):
    check_detector(made, compression, 4)


def test_objects_that_are_not_there_count():
    def found(*places, label=0):
        return [Detection(label, str(label), 0.9, Box(x, 0, x + 10, 10)) for x in places]

    again, overlap, right = detections([found(0, 20)], [found(0, 20, 40)])
    assert (again.good, overlap.good, right.good) == (True, True, False)
    assert right.value == pytest.approx(2 / 3)
    again, overlap, right = detections([found(0, 20)], [found(0)])
    assert (again.value, overlap.good, right.good) == (0.5, True, True)
    again, _, right = detections([found(0)], [found(0, label=1)])
    assert (again.value, right.value) == (0.0, 0.0)
    assert not detections([[]], [found(0)])[-1].good
    (nothing,) = detections([[]], [[]])
    assert nothing.good


def test_the_classifier_names_the_same(made):
    check_classifier(made, "none", 8, 1.0)


def test_the_embedder_makes_the_same_vectors(made):
    check_embedder(made, "none", 6)


def test_the_speech_model_hears_the_same(made):
    check_speech(made, "none", 2, "macos15")


def test_verifying_tells_a_package_from_anothers(made, tmp_path):
    findings = verify(made("classify"), MODELS / "classify")
    assert len(findings) == 2
    assert all(one.good for one in findings)
    other = Path(shutil.copytree(MODELS / "classify", tmp_path / "other")) / "model.onnx"
    graph = onnx.load(other)
    weights = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    noise = np.random.default_rng(0).normal(1, 0.2, weights.dims)
    weights.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(weights) * noise).astype("f"), weights.name))
    onnx.save(graph, other)
    worse = verify(made("classify"), other.parent)
    assert not worse[0].good
    assert "LESS THAN 0.999" in str(worse[0])


def test_verifying_speech(made):
    package = made("speech", target="macos15")
    findings = verify(package, package.parent / "checkpoint")
    assert len(findings) == 5
    assert [str(one) for one in findings if not one.good] == []


@pytest.mark.apple
@pytest.mark.parametrize("units", ["all", "cpu_and_gpu", "cpu_only"])
@pytest.mark.parametrize("name", ["detect", "classify", "embed", "speech"])
def test_core_ml_itself_agrees_with_the_source(made, name, units):
    package = made(name, target="macos15")
    source = package.parent / "checkpoint" if name == "speech" else MODELS / name
    assert [str(one) for one in verify(package, source, compute_units=units) if not one.good] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("compression", ["none", "int8", "palette8"])
class TestAtLength:
    def test_detector(self, made, compression):
        check_detector(made, compression, 300)

    def test_classifier(self, made, compression):
        check_classifier(made, compression, 300, 1.0)

    def test_embedder(self, made, compression):
        check_embedder(made, compression, 100)

    @pytest.mark.parametrize("target", ["macos14", "macos15"])
    def test_speech(self, made, compression, target):
        check_speech(made, compression, 60, target)
