"""The MLX language backend on MLX itself: the starter chat model, whose folder is a Hugging Face checkpoint."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
from support.chat_templates import TEMPLATES

from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.testing.llm import LLMContract
from llama_pajamas_run_core.types.chat import Chat, JsonFormat, Message, NamedTool, Tool

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed", exc_type=ImportError)

from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

from llama_pajamas_run_core.language.templates import sandbox
from llama_pajamas_run_core.language.templates.template import ChatTemplate
from llama_pajamas_run_mlx.llm import MLXLLMBackend

LAMP = Tool(
    "set_lamp",
    "Switches a lamp.",
    {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False},
)


class TestStarterModel(LLMContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, starter_chat: Path) -> Callable[[], MLXLLMBackend]:
        return lambda: MLXLLMBackend(starter_chat, n_ctx=1024, n_lanes=4, dtype="float32")


@pytest.fixture(scope="module")
def backend(starter_chat: Path) -> Iterator[MLXLLMBackend]:
    with MLXLLMBackend(starter_chat, n_lanes=8, dtype="float32") as backend:
        yield backend


@pytest.fixture
def copy(starter_chat: Path, tmp_path: Path) -> Path:
    """The model's folder, to be damaged."""
    return Path(shutil.copytree(starter_chat, tmp_path / "model"))


# The same tokens as llama.cpp's


@pytest.fixture(scope="module")
def held_out(starter_gguf: Path):
    """Held-out conversations, one or two of each kind, with llama.cpp's greedy answers."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from llama_pajamas_run_gguf.llm import GGUFLLMBackend
    from llama_pajamas_starter.chat.evaluate import core_tools, openai_messages
    from llama_pajamas_starter.chat.families import held_out

    asked = [(openai_messages(one.prompt), core_tools(one.tools)) for one in held_out(7, 2)][::2][:40]
    with GGUFLLMBackend(starter_gguf, n_ctx=2048, n_lanes=4, n_threads=1) as peer:
        return asked, answers(peer, asked)


def answers(backend, asked) -> list[bytes]:
    """The greedy answers to many conversations at once, as the tokens' bytes."""
    running = [
        backend.stream(messages, tools=tools, temperature=0.0, max_tokens=80, logprobs=0) for messages, tools in asked
    ]
    return [b"|".join(token.token_bytes for token in one.result().logprobs) for one in running]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_greedy_tokens_are_llama_cpps(starter_chat, held_out, dtype) -> None:
    asked, expected = held_out
    assert len(asked) >= 30
    with MLXLLMBackend(starter_chat, n_lanes=8, dtype=dtype) as backend:
        assert backend.details["dtype"] == dtype
        assert answers(backend, asked) == expected


# Batches


def test_requests_share_steps(backend) -> None:
    engine, calls = backend._engine, []
    generator, original = engine._generator, engine._generator.next
    generator.next = lambda: calls.append(len(engine._running)) or original()
    try:
        options = {"max_tokens": 40, "temperature": 0.0, "logit_bias": dict.fromkeys(backend._tokenizer.ends, -100.0)}
        streams = [backend.stream(f"What is {n} plus 2?", **options) for n in range(8)]
        assert all(one.result().usage.completion_tokens == 40 for one in streams)
    finally:
        generator.next = original
    assert max(calls) == 8
    assert len(calls) < 100  # one after the other they would take 320


def test_a_late_request_joins_and_a_cancelled_one_leaves(backend) -> None:
    options = {"temperature": 0.0, "logit_bias": dict.fromkeys(backend._tokenizer.ends, -100.0)}
    long = backend.stream("Hello!", **options)
    reader = iter(long)
    next(reader)
    assert backend.chat("What is 2 plus 2?", max_tokens=8, temperature=0.0).text
    assert backend._engine.load["running"] == 1
    reader.close()
    assert backend.chat("What is 2 plus 2?", max_tokens=8, temperature=0.0).text
    assert backend._engine.load == {"running": 0, "waiting": 0}


def test_all_models_share_one_thread(starter_chat, backend) -> None:
    with MLXLLMBackend(starter_chat, n_lanes=2) as other, ThreadPoolExecutor(4) as callers:
        made = list(callers.map(lambda one: one.chat("Hello!", max_tokens=8).text, [backend, other] * 4))
    assert all(made)
    assert [thread.name for thread in threading.enumerate()].count("mlx") == 1
    assert backend.chat("Hello!", max_tokens=4).text  # closing the other left this one alone


def test_the_next_turn_is_read_from_where_the_last_one_ended(backend) -> None:
    first = [Message("user", "What is twelve plus thirty?")]
    answer = backend.chat(first, temperature=0.0, max_tokens=40)
    second = [*first, Message("assistant", answer.text), Message("user", "And minus two?")]
    again = backend.chat(second, temperature=0.0, max_tokens=40)
    assert again.usage.cached_tokens >= answer.usage.prompt_tokens
    fresh = MLXLLMBackend(backend.path, prompt_cache_mb=0, dtype="float32")
    with fresh:
        plain = fresh.chat(second, temperature=0.0, max_tokens=40)
    assert plain.usage.cached_tokens == 0
    assert plain.text == again.text


# Sampling


def test_sampling_that_leaves_one_token_is_greedy(backend) -> None:
    greedy = backend.chat("Hello!", temperature=0.0, max_tokens=16).text
    for options in ({"top_k": 1}, {"top_p": 0.0, "top_k": 0}, {"min_p": 1.0, "top_p": 1.0}):
        assert backend.chat("Hello!", temperature=1.5, seed=5, max_tokens=16, **options).text == greedy


def test_seeds_differ_and_repeat(backend) -> None:
    def sample(seed: int) -> str:
        return backend.generate("Once", temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed, max_tokens=12).text

    made = [sample(seed) for seed in range(4)]
    assert len(set(made)) > 1
    assert made == [sample(seed) for seed in range(4)]


def test_a_bias_forces_and_forbids(backend) -> None:
    (wanted,) = backend._tokenizer.encode("a")[:1]
    forced = backend.generate("Hello", temperature=0.0, max_tokens=3, logit_bias={wanted: 100.0}, logprobs=1)
    assert [one.token_bytes for one in forced.logprobs] == [b"a"] * 3
    assert forced.logprobs[0].top[0].logprob > forced.logprobs[0].logprob  # the model's own, before the bias
    with pytest.raises(BadInput, match="99999999"):
        backend.chat("Hello!", logit_bias={99999999: 1.0})


def test_the_models_own_probabilities_are_reported_whatever_is_sampled(backend) -> None:
    asked = {"temperature": 0.0, "max_tokens": 1, "logprobs": 3}
    (plain,) = backend.generate("the lamp the lamp the lamp the", **asked).logprobs
    penalized = {"repeat_penalty": 9.0, "presence_penalty": 2.0, "frequency_penalty": 2.0}
    held = {"response_format": JsonFormat({"type": "object", "maxProperties": 0})}
    for more in (penalized, held, {"logit_bias": dict.fromkeys(range(100), 5.0)}):
        (changed,) = backend.generate("the lamp the lamp the lamp the", **asked, **more).logprobs
        assert [one.token_bytes for one in changed.top] == [one.token_bytes for one in plain.top]
        assert [one.logprob for one in changed.top] == pytest.approx([one.logprob for one in plain.top], abs=1e-3)


def test_penalties_keep_from_repeating(backend) -> None:
    (token,) = backend._tokenizer.encode("a")[:1]
    options = {"temperature": 0.0, "max_tokens": 12, "logit_bias": {token: 60.0}}
    plain = backend.generate("Hello", **options).text
    assert plain == "a" * 12
    # The bias is fifteen or so ahead of all others: it lasts for a few tokens, then the penalty has caught up.
    for penalty in ({"frequency_penalty": 2.0}, {"repeat_penalty": 9.0}):
        kept = backend.generate("Hello", **options | {"logit_bias": {token: 36.0}, "max_tokens": 40}, **penalty).text
        assert "a" in kept
        assert kept != "a" * 40


def test_a_repeat_penalty_of_nothing_is_refused(backend) -> None:
    with pytest.raises(BadInput, match="repeat_penalty"):
        backend.chat("Hello!", repeat_penalty=0.0)


# Formats and tools


def test_a_tool_is_called_of_its_own_accord(backend) -> None:
    from llama_pajamas_starter.chat.evaluate import core_tools, judge, openai_messages
    from llama_pajamas_starter.chat.families import held_out

    samples = [one for one in held_out(3, 2) if one.answer.get("tool_calls")][:6]
    assert samples
    for sample in samples:
        answer = backend.chat(
            openai_messages(sample.prompt), tools=core_tools(sample.tools), temperature=0.0, max_tokens=200
        )
        assert judge(sample, answer) == (True, True)
        assert answer.finish_reason == "tool_calls"


def test_a_named_tool_is_called_whatever_was_said(backend) -> None:
    answer = backend.chat(
        "Hello!", tools=[LAMP, Tool("get_time")], tool_choice=NamedTool("get_time"), temperature=1.0, max_tokens=200
    )
    assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [("get_time", {})]


def test_sampled_json_fits_its_schema(backend) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
        },
        "required": ["name", "sizes"],
        "additionalProperties": False,
    }
    streams = [
        backend.stream("Say something.", temperature=1.0, seed=n, max_tokens=200, response_format=JsonFormat(schema))
        for n in range(6)
    ]
    for stream in streams:
        answer = stream.result()
        assert answer.finish_reason == "stop"
        jsonschema.validate(json.loads(answer.text), schema)


def test_json_may_follow_raw_text(backend) -> None:
    answer = backend.generate(
        "Here:", temperature=0.0, max_tokens=60, response_format=JsonFormat({"type": "object", "maxProperties": 0})
    )
    assert json.loads(answer.text) == {}


@pytest.mark.parametrize(
    ("schema", "error"), [({"type": "array", "uniqueItems": True}, Unsupported), ({"type": "objekt"}, BadInput)]
)
def test_a_schema_that_cannot_be_kept_is_named(backend, schema, error) -> None:
    with pytest.raises(error, match=r"uniqueItems|objekt"):
        backend.chat("Hello!", response_format=JsonFormat(schema))


# Loading


def test_damaged_folders_are_named(copy) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(LoadError, match="model"):
        MLXLLMBackend(copy)
    weights.unlink()
    with pytest.raises(LoadError, match="safetensors"):
        MLXLLMBackend(copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(LoadError, match=r"tokenizer\.json"):
        MLXLLMBackend(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "no_such_model"}, "no_such_model"),
        ({"model_file": "model.py"}, r"model\.py"),
        ({"num_hidden_layers": 9}, "could not be loaded"),
    ],
)
def test_models_that_cannot_be_run_are_refused(copy, change, said) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    (copy / "model.py").write_text("raise SystemExit('this must not be run')")
    with pytest.raises(LoadError, match=said):
        MLXLLMBackend(copy)


@pytest.mark.parametrize(
    "options",
    [
        {"n_ctx": 0},
        {"n_ctx": True},
        {"n_lanes": "many"},
        {"dtype": "int8"},
        {"prompt_cache_mb": -1},
        {"threads": 2},
        {"adapters": ["folder"]},
    ],
)
def test_options_that_mean_nothing_are_named(starter_chat, options) -> None:
    with pytest.raises(BadInput, match=next(iter(options))):
        MLXLLMBackend(starter_chat, **options)


def test_an_adapter_is_a_folder_of_mlx_lms(starter_chat, tmp_path) -> None:
    with pytest.raises(LoadError, match="adapter_config"):
        MLXLLMBackend(starter_chat, adapter=tmp_path)


def test_an_adapter_changes_answers(starter_chat, tmp_path, backend) -> None:
    import mlx.core as mx

    config = {"fine_tune_type": "lora", "num_layers": 8, "lora_parameters": {"rank": 2, "scale": 40.0, "dropout": 0.0}}
    config["lora_parameters"]["keys"] = ["mlp.down_proj"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for layer in range(8):
        name = f"model.layers.{layer}.mlp.down_proj"
        tensors[f"{name}.lora_a"] = mx.random.normal((384, 2), key=mx.random.key(layer))
        tensors[f"{name}.lora_b"] = mx.random.normal((2, 160), key=mx.random.key(99 + layer))
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), tensors)
    with MLXLLMBackend(starter_chat, adapter=tmp_path, dtype="float32") as tuned:
        assert (
            tuned.generate("Hello", max_tokens=8, temperature=0.0).text
            != backend.generate("Hello", max_tokens=8, temperature=0.0).text
        )


def test_a_model_without_a_template_writes_raw_text(copy) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    with MLXLLMBackend(copy) as bare:
        assert not bare.capabilities.chat
        assert bare.generate("Hello", max_tokens=4).usage.completion_tokens
        with pytest.raises(Unsupported, match="template"):
            bare.chat("Hello!")
    with MLXLLMBackend(copy, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}:") as given:
        assert given.capabilities.chat
        # A template that has no words for tools: they are explained in the system prompt.
        hello = [Message("user", "Hello!")]
        assert given.count_tokens(hello, tools=[LAMP]) > given.count_tokens(hello) + 50


def test_a_model_that_fails_to_load_leaves_nothing_behind(starter_chat, tmp_path) -> None:
    backend = MLXLLMBackend()
    with pytest.raises(LoadError, match="adapter_config"):
        backend.load_model(starter_chat, adapters={"none": tmp_path})
    assert not [name for name, held in vars(backend).items() if held is not None]
    assert backend.load_model(starter_chat).chat("Hello!", max_tokens=1).usage.completion_tokens
    backend.close()


def test_templates_are_rendered_as_transformers_renders_them(backend) -> None:
    hugging_face = AutoTokenizer.from_pretrained(backend.path, local_files_only=True)
    parameters = {"type": "object", "properties": {}}
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": parameters}}]
    talks = [
        [Message("user", "Hello!")],
        [Message("system", "Be brief."), Message("user", " <|im_end|> & ü ")],
        [Message("user", "Hello!"), Message("assistant", "Hi."), Message("user", "And now?")],
    ]
    compared = 0
    for source in (hugging_face.chat_template, *TEMPLATES.values()):
        special = {"bos_token": "", "eos_token": "", **hugging_face.special_tokens_map}
        template = ChatTemplate(source, origin="test", tokens=special)
        for messages, given in product(talks, ([], [Tool("f")])):
            plain = [{"role": one.role, "content": one.text} for one in messages]
            try:
                expected = hugging_face.apply_chat_template(
                    plain, tools=tools if given else None, chat_template=source, add_generation_prompt=True,
                    tokenize=False,
                )  # fmt: skip
            except TemplateError:
                continue
            if (given and "tools" not in source) or "part in m.content" in source:
                continue  # said in another way here
            assert template.render(Chat(tuple(messages), tuple(given))) == expected
            compared += 1
    assert compared > 15


def test_the_template_for_tools_is_taken_for_tools(copy) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    plain, with_tools = "{{ messages[0].content }}", "{{ tools | length }}{{ messages[0].content }}" + "!" * 40
    config["chat_template"] = [{"name": "default", "template": plain}, {"name": "tool_use", "template": with_tools}]
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    with MLXLLMBackend(copy) as several:
        assert several.capabilities.chat
        assert several.count_tokens([Message("user", "Hello!")]) == several.count_tokens("Hello!")
        assert several.count_tokens([Message("user", "Hello!")], tools=[LAMP]) > several.count_tokens("Hello!")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_neither_reaches_outside_nor_takes_all_time(copy, template, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.1)
    with MLXLLMBackend(copy, chat_template=template) as backend, pytest.raises(BadInput, match="template"):
        backend.chat("Hello!")


def test_what_a_model_wants_is_what_it_gets(copy) -> None:
    wants = {"do_sample": False, "eos_token_id": 2, "repetition_penalty": 0}
    (copy / "generation_config.json").write_text(json.dumps(wants))
    with MLXLLMBackend(copy) as greedy:
        assert len({greedy.chat("Hello!", max_tokens=12).text for _ in range(3)}) == 1
