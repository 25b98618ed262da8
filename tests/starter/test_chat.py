"""The starter chat model: its data, its checkpoint, its GGUF file, and what it answers through llama.cpp."""

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from llama_pajamas_run_core.errors import LoadError, UserError
from llama_pajamas_run_core.types.chat import Completion, ToolCall, Usage
from llama_pajamas_starter.chat import checkpoint
from llama_pajamas_starter.chat.arithmetic import addition, subtraction
from llama_pajamas_starter.chat.calendar import clock, duration
from llama_pajamas_starter.chat.evaluate import Report, expected, judge, openai_messages
from llama_pajamas_starter.chat.families import DEFAULT_SYSTEM, FAMILIES, held_out, samples, spoken_samples
from llama_pajamas_starter.chat.sample import Sample
from llama_pajamas_starter.chat.scenes import description
from llama_pajamas_starter.chat.to_gguf import convert, gguf_name

llama_cpp = pytest.importorskip("llama_cpp", reason="the chat model is run by llama.cpp")
tokenizers = pytest.importorskip("tokenizers", reason="the reference for the token ids")


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(checkpoint(), tmp_path_factory.mktemp("chat") / "chat.gguf")


@pytest.fixture(scope="module")
def llama(gguf_file: Path) -> Any:
    model = llama_cpp.Llama(str(gguf_file), n_ctx=2048, n_threads=1, verbose=False)
    yield model
    model.close()


@pytest.fixture(scope="module")
def formatter() -> Any:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    config = json.loads((checkpoint() / "tokenizer_config.json").read_text())
    return Jinja2ChatFormatter(template=config["chat_template"], eos_token="<|im_end|>", bos_token="")


def reply(llama: Any, formatter: Any, messages: list[Any], tools: list[Any] | None = None) -> str:
    """The greedy answer's text, tool-call marks included."""
    prompt = formatter(messages=openai_messages(messages), tools=tools or None).prompt
    tokens = llama.tokenize(prompt.encode(), add_bos=False, special=True)
    out: list[int] = []
    llama.reset()
    for token in llama.generate(tokens, temp=0.0, repeat_penalty=1.0):
        if token == llama.token_eos() or len(out) == 200:
            break
        out.append(token)
    return str(llama.detokenize(out, special=True).decode())


# The data


def test_the_splits_share_no_key() -> None:
    trained = {key for sample in islice(samples(1, "train"), 20_000) for key in sample.keys if not key.startswith("!")}
    held = {sample.keys[-1] for sample in held_out(1, 40)}
    assert len(held) > 500
    assert not trained & held


@pytest.mark.parametrize("generator", [addition, subtraction])
def test_no_wording_of_a_held_out_sum_is_trained_on(generator: Any) -> None:
    def pair(sample: Sample) -> str:
        return str(sample.answer["content"]).split(" is ")[0]

    trained = {pair(s) for s in islice(samples(2, "train", ((generator, 1.0),)), 20_000)}
    held = {pair(s) for s in islice(samples(2, "held-out", ((generator, 1.0),)), 500)}
    assert not trained & held


def test_a_seed_fixes_the_stream() -> None:
    assert [s.messages for s in islice(samples(3, "train"), 50)] == [
        s.messages for s in islice(samples(3, "train"), 50)
    ]
    assert [s.messages for s in islice(samples(3, "train"), 50)] != [
        s.messages for s in islice(samples(4, "train"), 50)
    ]


def test_a_question_has_one_right_answer() -> None:
    answers: dict[str, str] = {}
    for sample in islice(samples(5, "train"), 20_000):
        question = repr((sample.prompt, sample.tools))
        assert answers.setdefault(question, expected(sample)) == expected(sample), question


def test_every_answer_in_words_is_fit_to_be_spoken() -> None:
    for question, answer in spoken_samples(6, 3_000, "train"):
        for text in (question, answer):
            assert text[0].isupper()
            assert text[-1] in ".?!"
            assert not any(c.isdigit() or c in "*_#`{}[]" for c in text), text


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "twelve o'clock"), (210, "half past three"), (225, "quarter to four"), (195, "quarter past three"),
        (217, "twenty-three minutes to four"), (181, "one minute past three"), (730, "ten past twelve"),
        (715, "five to twelve"), (-5, "five to twelve"), (13 * 60, "one o'clock"),
    ],
)  # fmt: skip
def test_clock(minutes: int, words: str) -> None:
    assert clock(minutes) == words


def test_duration_and_description() -> None:
    assert duration(61) == "one hour and one minute"
    assert description(["car", "house", "car"]) == "I see two cars and a house."
    assert description([]) == "I do not see anything."


# Judging


def _completion(text: str = "", calls: tuple[ToolCall, ...] = ()) -> Completion:
    return Completion(text, "tool_calls" if calls else "stop", Usage(1, 1), tool_calls=calls)


def test_judging_compares_json_as_values() -> None:
    user = {"role": "user", "content": "?"}
    spoken = Sample("x", [user, {"role": "assistant", "content": "Yes."}], ("k",))
    assert judge(spoken, _completion("Yes.")) == (True, None)
    assert judge(spoken, _completion("Yes")) == (False, None)
    wanted = Sample("x", [user, {"role": "assistant", "content": '{"a": 1, "b": 2}'}], ("k",), json=True)
    assert judge(wanted, _completion('{"b":2,"a":1}')) == (True, True)
    assert judge(wanted, _completion('{"a": 1}')) == (False, True)
    assert judge(wanted, _completion("one")) == (False, False)
    call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    tool = Sample("x", [user, {"role": "assistant", "content": "", "tool_calls": [call]}], ("k",))
    assert judge(tool, _completion(calls=(ToolCall("1", "f", '{"a":1}'),))) == (True, True)
    assert judge(tool, _completion(calls=(ToolCall("1", "g", '{"a":1}'),))) == (False, True)
    assert judge(tool, _completion("I cannot.")) == (False, False)


def test_a_report_passes_on_its_floors() -> None:
    assert Report({"a": (95, 100)}, (99, 100)).passed
    assert not Report({"a": (94, 100)}, (99, 100)).passed
    assert not Report({"a": (95, 100)}, (98, 100)).passed


# The checkpoint and its GGUF file


def test_the_checkpoint_is_small_and_float16() -> None:
    assert (checkpoint() / "model.safetensors").stat().st_size <= 5_000_000
    tensors = load_file(checkpoint() / "model.safetensors")
    assert {str(t.dtype) for t in tensors.values()} == {"float16"}
    assert all(np.isfinite(t).all() for t in tensors.values())


def test_the_gguf_file_holds_the_checkpoint(gguf_file: Path) -> None:
    reader = gguf.GGUFReader(gguf_file)
    tensors = {t.name: t.data for t in reader.tensors}
    for name, values in load_file(checkpoint() / "model.safetensors").items():
        assert np.array_equal(tensors[gguf_name(name)].reshape(values.shape), values)
    assert reader.fields["general.architecture"].contents() == "qwen3"
    assert reader.fields["tokenizer.ggml.pre"].contents() == "qwen2"


def test_q8_0_answers_too(tmp_path: Path, formatter: Any) -> None:
    small = convert(checkpoint(), tmp_path / "q8.gguf", "q8_0")
    assert small.stat().st_size < 3_000_000
    model = llama_cpp.Llama(str(small), n_ctx=512, n_threads=1, verbose=False)
    assert (
        reply(model, formatter, [{"role": "user", "content": "What is two plus three?"}]) == "Two plus three is five."
    )
    model.close()


def test_a_broken_checkpoint_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"config\.json"):
        convert(tmp_path, tmp_path / "out.gguf")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((checkpoint() / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((checkpoint() / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(LoadError, match=r"model\.safetensors"):
        convert(tmp_path, tmp_path / "out.gguf")
    save_file({"model.unknown.weight": np.zeros((32, 32), np.float16)}, tmp_path / "model.safetensors")
    with pytest.raises(LoadError, match="unknown"):
        convert(tmp_path, tmp_path / "out.gguf")
    with pytest.raises(UserError, match="q4"):
        convert(checkpoint(), tmp_path / "out.gguf", "q4")  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.gguf*"))
    assert not list(tmp_path.glob(".*part"))


def test_token_ids_are_those_of_tokenizer_json(llama: Any) -> None:
    reference = tokenizers.Tokenizer.from_file(str(checkpoint() / "tokenizer.json"))
    rng = random.Random(0)
    alphabet = "abcXYZ 0123456789 \n\n\t\r'’\".,;:!?-_{}[]()/\\€%$#@&*+=<>|~^`'s'LLİ"
    alphabet += "éüßñçěλжשع中文日本語한국어🙂👍🏽👨‍👩‍👧\u200b\u00a0\u3000\u0301²½Ⅷ٣"
    texts = [str(sample.prompt[-1]["content"]) for sample in islice(samples(7, "held-out"), 500)]
    texts += ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))) for _ in range(2_000)]
    texts += ["".join(chr(rng.randint(1, 0xD7FF)) for _ in range(10)) for _ in range(500)]
    texts += ["", " ", "\n \n", "  two  spaces ", "I'LL we're", "a\r\n\r\nb"]
    for text in texts:
        ids = llama.tokenize(text.encode(), add_bos=False, special=False)
        assert ids == reference.encode(text, add_special_tokens=False).ids, repr(text)
        assert llama.detokenize(ids).decode() == text
    marked = "<|im_start|>user\nHello!<|im_end|>\n<tool_call>\n{}\n</tool_call>"
    assert llama.tokenize(marked.encode(), add_bos=False, special=True) == reference.encode(marked).ids


def test_the_template_takes_openai_messages(formatter: Any) -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "F.", "parameters": {"type": "object", "properties": {}}},
    }
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "c1", "content": "r1"},
        {"role": "tool", "tool_call_id": "c2", "content": "r2"},
    ]
    text = formatter(messages=messages, tools=[tool]).prompt
    assert text.startswith("<|im_start|>system\nS\n\n# Tools")
    assert "<|im_start|>user\none two<|im_end|>\n" in text
    called = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    assert f"<|im_start|>assistant\n{called}\n{called}<|im_end|>\n" in text
    answered = "<tool_response>\nr1\n</tool_response>\n<tool_response>\nr2\n</tool_response>"
    assert text.endswith(f"<|im_start|>user\n{answered}<|im_end|>\n<|im_start|>assistant\n")


# What it answers


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Hello!", "Hello! I am Pajama, a small voice assistant. How can I help you?"),
        ("What is two plus two?", "Two plus two is four."),
        ("what is 23 + 19", "Twenty-three plus nineteen is forty-two."),
        ("What is seven times eight?", "Seven times eight is fifty-six."),
        ("How many days are in March?", "March has thirty-one days."),
        ("Turn off the light in the kitchen.", "Turning off the light in the kitchen."),
        ("Who are you?", "I am Pajama, a small voice assistant."),
    ],
)
def test_it_answers(llama: Any, formatter: Any, question: str, answer: str) -> None:
    user = {"role": "user", "content": question}
    assert reply(llama, formatter, [user]) == answer
    assert reply(llama, formatter, [{"role": "system", "content": DEFAULT_SYSTEM}, user]) == answer


def test_a_bare_prompt_is_completed_and_ends(llama: Any) -> None:
    out = llama.create_completion("Hello!", max_tokens=200, temperature=0.0)["choices"][0]
    assert out["finish_reason"] == "stop"
    assert "Pajama" in out["text"]


def test_held_out_prompts_are_answered_right(llama: Any, formatter: Any) -> None:
    right = total = 0
    for sample in held_out(2, 2):
        said = reply(llama, formatter, sample.prompt, sample.tools)
        calls = sample.answer.get("tool_calls", [])
        wanted = "\n".join(f"<tool_call>\n{json.dumps(call['function'])}\n</tool_call>" for call in calls)
        right += said == (wanted or sample.answer["content"])
        total += 1
    assert total == 2 * len(FAMILIES)
    assert right / total >= 0.9
