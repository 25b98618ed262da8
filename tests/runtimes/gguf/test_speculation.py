"""Guessing tokens: never another answer, right where text repeats, and off where it does not pay."""

from array import array
from pathlib import Path

import pytest
from support.tiny_gguf import write_tiny_gguf

from llama_pajamas_run_core.errors import BadInput, LoadError
from llama_pajamas_run_core.types.chat import JsonFormat

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.engine.speculation import LookupDrafter, Speculator, StepTimes

PROMPTS = ("one two three one two three one two", "the quick brown fox jumps over the lazy dog. the quick", "hello")


@pytest.fixture
def load(load_either):
    return load_either


def generous(backend) -> None:
    """Make every step look equally cheap, so that all that can be guessed is."""
    backend._engine._speculator._times.predict = lambda tokens: 1.0


@pytest.mark.parametrize("drafting", ["lookup", "same", "other"])
def test_guessing_changes_no_answer(load, tiny_model: Path, tmp_path: Path, drafting: str) -> None:
    plain = load()
    if drafting == "lookup":
        guessing = load(speculation="lookup")
    else:
        other = write_tiny_gguf(tmp_path / "other.gguf", layers=1, seed=5)
        guessing = load(draft_model=tiny_model if drafting == "same" else other)
    generous(guessing)
    for options in ({"temperature": 0.0}, {"temperature": 1.0, "seed": 3}, {"temperature": 0.0, "logprobs": 1}):
        expected = [plain.generate(prompt, max_tokens=80, **options) for prompt in PROMPTS]
        streams = [guessing.submit(_request(prompt, max_tokens=80, **options)) for prompt in PROMPTS]
        assert [stream.result().text for stream in streams] == [answer.text for answer in expected]
    speculator = guessing._engine._speculator
    assert speculator.proposed > 20
    if drafting == "same":
        assert speculator.accepted > 0.5 * speculator.proposed  # half of the answers are drawn at random
    guessing._ready().run(guessing._engine._cache.drop_idle)
    assert guessing._engine.load["cells_free"] == guessing._engine._cache.ledger.size


def test_limits_stops_and_grammars_hold_while_guessing(load, tiny_model: Path) -> None:
    plain, guessing = load(), load(draft_model=tiny_model, n_ctx=128)
    generous(guessing)
    for tokens in (1, 2, 3, 7):
        assert guessing.generate("hello", max_tokens=tokens, temperature=0.0).usage.completion_tokens <= tokens
    full = guessing.generate("hello", temperature=0.0, logit_bias={guessing._tokenizer.eos: -100.0})
    assert full.usage.total_tokens == 128
    text = plain.generate("hello", max_tokens=60, temperature=0.0).text
    stop = text[len(text) // 2 :][:3]
    assert guessing.generate("hello", max_tokens=60, temperature=0.0, stop=(stop,)).text == text[: text.index(stop)]
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3}
    options = {"max_tokens": 60, "temperature": 0.0, "response_format": JsonFormat(schema)}
    assert guessing.generate("hello", **options).text == plain.generate("hello", **options).text


def test_a_full_cache_is_no_trouble_while_guessing(load, tiny_model: Path) -> None:
    plain, guessing = load(n_ctx=256), load(draft_model=tiny_model, n_ctx=256, kv_cells=256)
    generous(guessing)
    prompts = [f"number {number}" for number in range(8)]
    streams = [guessing.submit(_request(prompt, max_tokens=120)) for prompt in prompts]
    expected = [plain.generate(prompt, max_tokens=120, temperature=0.0).text for prompt in prompts]
    assert [stream.result().text for stream in streams] == expected


def test_lookup_finds_what_followed_before() -> None:
    look_up = LookupDrafter()._look_up
    assert look_up(array("i", [1, 2, 3, 4, 5, 9, 1, 2, 3]), 2).tolist() == [4, 5]
    assert look_up(array("i", [7, 1, 2, 8, 3, 1, 2, 9, 5, 1, 2]), 2).tolist() == [9, 5]  # the latest
    assert look_up(array("i", [1, 2, 1, 2, 1, 2, 1, 2]), 4).tolist() == [1, 2, 1, 2]
    assert look_up(array("i", [1, 2, 3]), 4).tolist() == []
    assert look_up(array("i", [1]), 4).tolist() == []


def test_steps_are_learned() -> None:
    times = StepTimes()
    assert times.predict(1) is None
    times.learn(1, 1.0)
    assert times.predict(9) == 1.0  # hoped to be cheap
    times.learn(9, 9.0)
    assert times.predict(5) == pytest.approx(5.0)
    assert times.predict(20) == 9.0


def test_guessing_pays_only_where_steps_are_cheap_and_guesses_right() -> None:
    speculator = Speculator(LookupDrafter())
    for tokens in (1, 2, 5, 9):
        speculator.learn(tokens, 1.0 + 0.05 * tokens)  # a memory-bound machine
    step = speculator._times.predict(1)
    assert speculator._worthwhile([0.95], [8], 1, step) >= 6
    assert speculator._worthwhile([0.3], [8], 1, step) <= 2
    assert speculator._worthwhile([0.95], [0], 1, step) == 0
    crowded = Speculator(LookupDrafter())
    for tokens in (16, 32, 64, 144):
        crowded.learn(tokens, 0.1 * tokens)  # computing is all that counts
    assert crowded._worthwhile([0.9] * 16, [8] * 16, 16, crowded._times.predict(16)) == 0


def test_a_draft_model_must_fit(load, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="vocabulary"):
        load(draft_model=write_tiny_gguf(tmp_path / "large.gguf", vocabulary=700))
    with pytest.raises(LoadError, match=r"none\.gguf"):
        load(draft_model=tmp_path / "none.gguf")
    with pytest.raises(BadInput, match="speculation"):
        load(speculation="always")
    assert load(draft_model=tiny_model, speculation="off")._engine._speculator is None


def _request(prompt: str, **options):
    from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest

    return GenerationRequest(prompt, GenerationOptions(**{"temperature": 0.0, **options}))
