"""``llama-pajamas eval fidelity``: the same answers in every runtime that is here, and reasons for the others."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_starter.chat import checkpoint
from llama_pajamas_starter.chat.families import held_out
from llama_pajamas_starter.fidelity import chat, speech, vision
from llama_pajamas_starter.fidelity.evaluate import evaluate
from llama_pajamas_starter.fidelity.merge import merged, recorded
from llama_pajamas_starter.fidelity.reference import Answer, Reference

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


# The record of the reference


def test_the_record_is_of_the_checkpoint_and_of_held_out_prompts() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    sys.path.insert(0, str(ROOT / "starter" / "recipes" / "chat"))
    try:
        from rendering import Renderer
    finally:
        sys.path.pop(0)
    reference = Reference.load()
    reference.check(checkpoint() / "model.safetensors")
    assert len(reference.answers) == 500
    assert len({one.prompt for one in reference.answers}) == 500
    assert all(one.tokens[-1] == reference.end for one in reference.answers)
    assert all(len(one.margins) == len(one.tokens) and one.margins.min() >= 0 for one in reference.answers)
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint() / "tokenizer.json"))
    prompts = {one.prompt for one in reference.answers}
    for sample in held_out(11, 1):
        text = Renderer().text(sample.prompt, sample.tools, prompt=True)
        assert tuple(tokenizer.encode(text, add_special_tokens=False).ids) in prompts
    pieces = chat.token_bytes(checkpoint())
    for answer in reference.answers[::50]:
        text = b"".join(pieces[token] for token in answer.tokens).decode()
        assert text == tokenizer.decode(list(answer.tokens), skip_special_tokens=False)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    answers = (
        Answer((1, 2, 3), (4, 2), np.array([0.5, 2.0], np.float32)),
        Answer((9,), (2,), np.array([1.5], np.float32)),
    )
    path = tmp_path / "record.npz"
    Reference(answers, 160, 2, "abc", "PyTorch").save(path)
    again = Reference.load(path)
    assert [(one.prompt, one.tokens, one.margins.tolist()) for one in again.answers] == [
        ((1, 2, 3), (4, 2), [0.5, 2.0]),
        ((9,), (2,), [1.5]),
    ]
    assert (again.max_tokens, again.end, again.made_with) == (160, 2, "PyTorch")
    (tmp_path / "weights").write_bytes(b"others")
    with pytest.raises(LoadError, match="other weights"):
        again.check(tmp_path / "weights")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(LoadError, match="no record of the reference"):
        Reference.load(path)


# Comparing


def test_differences_are_found_and_told() -> None:
    assert chat.first_difference([1, 2], [1, 2]) is None
    assert chat.first_difference([1, 3], [1, 2]) == 1
    assert chat.first_difference([1], [1, 2]) == 1
    assert chat.described([]) == "no difference"
    told = chat.described([chat.Difference(3, 0.25), chat.Difference(7, 0.01), chat.Difference(4, 1.5)])
    where = "first at token 3 to 7 (median 4), where the reference's lead is 0.01 to 1.5 (median 0.25) logits"
    assert told == f"3 differ, {where}"


def test_an_answer_that_differs_is_noticed(machine: Machine) -> None:
    reference, pieces = Reference.load(), chat.token_bytes(checkpoint())
    asked = list(reference.answers[:6])
    other = (*asked[2].tokens[:1], 5, *asked[2].tokens[2:])
    asked[2] = Answer(asked[2].prompt, other, asked[2].margins)
    asked[4] = Answer(asked[4].prompt, asked[4].tokens[:-1], asked[4].margins[:-1])
    with machine.open(Task.LLM, "starter-chat", runtime="gguf") as backend:
        found = chat.compare(backend, asked, reference, pieces)
    assert [one.position for one in found] == [1, len(asked[4].tokens)]
    assert found[0].margin == float(asked[2].margins[1])


def test_runtimes_agree_or_say_why_they_are_not_here(machine: Machine) -> None:
    rows = list(evaluate(machine, only="chat", prompts=5))
    assert [row.subject for row in rows] == [
        "llama.cpp, F16", "MLX, FP32", "MLX, FP16", "llama.cpp, Q8_0", "llama.cpp, Q4_K_M",
        "MLX, 8 bits", "MLX, 4 bits",
    ]  # fmt: skip
    for row in rows:
        if row.value is None:
            assert "not installed" in row.note
        else:
            assert (row.cases, row.reached) == (5, True)
            if row.floor is not None:
                assert (row.value, row.note) == (1.0, "no difference")


def without_evaluator(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Leave out what the evaluator of Core ML would compute in seconds for each case."""
    every = module.subjects
    monkeypatch.setattr(module, "subjects", lambda *of: [one for one in every(*of) if "evaluated" not in one.name])


def test_speech_has_a_row_for_every_runtime(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    without_evaluator(monkeypatch, speech)
    rows = list(evaluate(machine, only="speech", clips=1))
    assert [row.subject for row in rows] == [
        "whisper.cpp, F16", "MLX, FP32", "MLX, FP16", "ONNX Runtime, FP32", "ONNX Runtime, FP32, 30 s windows",
        "TensorRT, FP16",
    ]  # fmt: skip
    heard = [row for row in rows if row.value is not None]
    assert all(row.value == 0 and row.reached for row in heard)
    assert {row.note for row in heard[1:]} <= {"the same words as whisper.cpp, F16 in 1 of 1 clips"}
    assert all(row.note for row in rows if row.value is None)


def test_vision_has_a_row_for_every_runtime(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    without_evaluator(monkeypatch, vision)
    rows = list(evaluate(machine, only="vision", images=3))
    assert [(row.model, row.subject) for row in rows] == [
        (f"starter-{model}", subject)
        for model in ("detect", "classify", "embed")
        for subject in ("ONNX Runtime, FP32", "TensorRT, FP16")
    ]
    assert all(row.value is not None and row.value > 0.8 for row in rows[::2])


@pytest.mark.slow
def test_core_ml_is_evaluated(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "MEASURES", [one for one in vision.MEASURES if one.model == "embed"])
    rows = [row for row in evaluate(machine, only="vision", images=3) if "Core ML" in row.subject]
    assert [row.subject for row in rows] == ["Core ML, FP16 (evaluated)", "Core ML, INT8 weights (evaluated)"]
    assert all(row.value == 1.0 and row.note.startswith("cosine to ONNX Runtime") for row in rows)


@pytest.mark.parametrize("options", [{"only": "smell"}, {"prompts": 0}, {"images": -1}])
def test_options_that_mean_nothing_are_named(machine: Machine, options: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=next(iter(options)) if "only" not in options else "modality"):
        list(evaluate(machine, **options))


# Records of other machines


def test_what_another_machine_measured_takes_the_place_of_a_reason(tmp_path: Path, machine: Machine) -> None:
    here = [
        Row("m", "WER", 0.01, 0.05, 10, 1.0, "lower", subject="MLX"),
        Row("m", "WER", None, 0.05, 0, 0.0, "lower", subject="TensorRT", note="no NVIDIA GPU"),
        Row("m", "WER", None, None, 0, 0.0, "lower", subject="Other", note="not built"),
    ]
    there = [
        Row("m", "WER", 0.02, 0.05, 10, 1.0, "lower", subject="MLX"),
        Row("m", "WER", 0.03, 0.05, 10, 1.0, "lower", subject="TensorRT", note="the same words"),
        Row("m", "WER", None, None, 0, 0.0, "lower", subject="Other", note="no Mac"),
    ]
    path = tmp_path / "there.json"
    record = {
        "machine": {"gpus": ["NVIDIA H200"], "processor": "x"},
        "date": "2026-11-21T13:00:00+00:00",
        "rows": [asdict(row) for row in there],
    }
    path.write_text(json.dumps(record))
    rows = list(merged(here, recorded(path)))
    assert [row.value for row in rows] == [0.01, 0.03, None]
    assert rows[1].note == "the same words; measured on NVIDIA H200, 2026-11-21"
    assert rows[2].note == "not built"
    path.write_text("{}")
    with pytest.raises(BadInput, match="no record of an evaluation"):
        list(evaluate(machine, only="chat", prompts=1, merge=[path]))
