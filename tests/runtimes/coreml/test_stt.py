"""Whisper in Core ML, computed by the reference evaluator: the contract, and transcripts to the letter."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support import tiny_whisper, whisper_checkpoint
from support.coreml_programs import builder, program, save

from llama_pajamas_run_core.artifacts.formats import COREML_WHISPER, identify
from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.testing.stt import STTContract, babble
from llama_pajamas_run_coreml.export import export
from llama_pajamas_run_coreml.export.options import ExportOptions
from llama_pajamas_run_coreml.stt import CoreMLSTTBackend


def write(folder, *args, options=None, **more):
    source = whisper_checkpoint.write(folder / "checkpoint", *args, **more)
    # Keys and values are both nothing in a model that recites; as one and the same they would be merged.
    tensors = load_file(source / "model.safetensors")
    random = np.random.default_rng(0)
    for name in tensors:
        if name.endswith("attn.key.weight"):
            tensors[name] = random.normal(0, 1e-3, tensors[name].shape).astype(tensors[name].dtype)
    save_file(tensors, source / "model.safetensors")
    export(source, folder / "coreml", options or ExportOptions(measure=False))
    return folder / "coreml"


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
    """English; the decoder's memory is handed in and out."""
    return write(tmp_path_factory.mktemp("handed"))


@pytest.fixture(scope="module")
def stateful(tmp_path_factory):
    """German; the decoder's memory is a state."""
    options = ExportOptions(target="macos15", measure=False)
    return write(tmp_path_factory.mktemp("stateful"), whisper_checkpoint.GERMAN, language=2, options=options)


@pytest.mark.slow
class TestMemoryHandedInAndOut(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, handed):
        return lambda: CoreMLSTTBackend(handed, compute_units="reference")


class TestMemoryAsState(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, stateful):
        return lambda: CoreMLSTTBackend(stateful, compute_units="reference")


def test_a_transcript_to_the_letter(handed):
    assert identify(handed) is COREML_WHISPER
    with CoreMLSTTBackend(handed, compute_units="reference") as backend:
        assert backend.languages == ("en",)
        assert backend.details["stateful"] is False
        assert backend.details["compute_units"] == "reference"
        made = backend.transcribe(babble(2.5))
    assert tiny_whisper.told(made) == tiny_whisper.SEGMENTS
    assert made.segments[0].avg_logprob == pytest.approx(0, abs=0.02)


def test_the_language_is_detected_and_the_memory_begins_anew(stateful):
    with CoreMLSTTBackend(stateful, compute_units="reference") as backend:
        assert backend.details["stateful"] is True
        assert backend.detect_language(babble(2.0)) == "de"
        for _ in range(2):
            made = backend.transcribe(babble(2.0), word_times=True)
            assert (made.language, made.text) == ("de", "Grüße.")


@pytest.mark.parametrize("kind", ["handed", "stateful"])
def test_many_tokens_at_once_are_those_one_by_one(request, kind):
    with CoreMLSTTBackend(request.getfixturevalue(kind), compute_units="reference") as backend:
        network = backend._network
        audio = network.encode(np.zeros((1, 80, 3000), np.float32))
        tokens = np.arange(100, 121, dtype=np.int32)[None]
        together, single = network.start(audio), network.start(audio)
        whole = network.step(together, tokens)
        for token in tokens[0]:
            last = network.step(single, np.array([[token]], np.int32))
        np.testing.assert_allclose(whole, last, atol=2e-2)
        assert network.align(audio, tokens).shape == (1, len(network._about.alignment_heads), 21, 1500)


def test_packages_that_do_not_belong_together_are_refused(handed, stateful, tmp_path):
    folder = shutil.copytree(handed, tmp_path / "mixed")
    shutil.rmtree(folder / "decoder.mlpackage")
    with pytest.raises(BadInput, match=r"holds no decoder\.mlpackage, but encoder\.mlpackage"):
        CoreMLSTTBackend(folder, compute_units="reference")
    shutil.copytree(stateful / "decoder.mlpackage", folder / "decoder.mlpackage")
    with pytest.raises(LoadError, match="of different models"):
        CoreMLSTTBackend(folder, compute_units="reference")
    shutil.rmtree(folder / "decoder.mlpackage")
    shutil.copytree(handed / "encoder.mlpackage", folder / "decoder.mlpackage")
    with pytest.raises(LoadError, match="is a whisper-encoder, not a whisper-decoder"):
        CoreMLSTTBackend(folder, compute_units="reference")
    shutil.rmtree(folder / "decoder.mlpackage")
    mb = builder()
    save(program({"x": np.zeros((1, 2), np.float32)}, lambda x: mb.relu(x=x)), folder / "decoder.mlpackage")
    with pytest.raises(LoadError, match="does not say what it is"):
        CoreMLSTTBackend(folder, compute_units="reference")


def test_unknown_options_and_absent_folders_are_named(handed, tmp_path):
    with pytest.raises(BadInput, match="threads.*compute_units"):
        CoreMLSTTBackend(handed, threads=2)
    with pytest.raises(BadInput, match="no Core ML model"):
        CoreMLSTTBackend(tmp_path / "absent", compute_units="reference")
