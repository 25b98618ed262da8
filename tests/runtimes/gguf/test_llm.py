"""The GGUF language backend on real llama.cpp: a tiny model of random weights, and the starter chat model."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.tiny_gguf import write_tiny_gguf

from llama_pajamas_run_core.errors import BadInput, LoadError, Unsupported
from llama_pajamas_run_core.testing.llm import LLMContract

llama_cpp = pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.llm import GGUFLLMBackend  # noqa: E402

#: Without rounding that depends on how tokens are cut into batches.
EXACT = {"kv_type": "f32", "flash_attention": False}

PROMPTS = ("the quick brown fox", "hello world, how are you", "a small model runs on", '{"name": "get_weather"')


class TestTinyModel(LLMContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tiny_model: Path) -> Callable[[], GGUFLLMBackend]:
        return lambda: GGUFLLMBackend(tiny_model, n_ctx=1024, n_lanes=4, n_threads=1, **EXACT)


class TestUnifiedCache(LLMContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tiny_model: Path) -> Callable[[], GGUFLLMBackend]:
        return lambda: GGUFLLMBackend(tiny_model, n_ctx=1024, n_lanes=4, n_threads=1, kv_unified=True, **EXACT)


class TestStarterModel(LLMContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], GGUFLLMBackend]:
        starter = pytest.importorskip("llama_pajamas_starter.chat")
        from llama_pajamas_starter.chat.to_gguf import convert

        if not (starter.checkpoint() / "model.safetensors").is_file():
            pytest.skip("this checkout has no starter chat model")
        path = convert(starter.checkpoint(), tmp_path_factory.mktemp("starter") / "chat.gguf")
        return lambda: GGUFLLMBackend(path, n_ctx=1024, n_lanes=4, n_threads=1)


@pytest.fixture(scope="module")
def peer(tiny_model: Path) -> "llama_cpp.Llama":
    """llama-cpp-python's own class on the same model."""
    model = llama_cpp.Llama(
        str(tiny_model), n_ctx=512, n_threads=1, n_threads_batch=1, type_k=0, type_v=0, verbose=False
    )
    yield model
    model.close()


def expected(peer: "llama_cpp.Llama", prompt: str, tokens: int) -> list[int]:
    peer.reset()
    made = []
    for token in peer.generate(peer.tokenize(prompt.encode(), special=True), temp=0.0, repeat_penalty=1.0):
        if token == peer.token_eos() or len(made) == tokens:
            break
        made.append(token)
    return made


def ids(backend: GGUFLLMBackend, prompt: str, tokens: int) -> bytes:
    answer = backend.generate(prompt, max_tokens=tokens, temperature=0.0, logprobs=0)
    return b"".join(entry.token_bytes for entry in answer.logprobs)


def test_greedy_tokens_are_llama_cpp_pythons(load_either, peer) -> None:
    backend = load_either()
    for prompt in PROMPTS:
        wanted = b"".join(backend._tokenizer.piece(token, special=True) for token in expected(peer, prompt, 48))
        assert ids(backend, prompt, 48) == wanted


def test_greedy_tokens_are_the_same_among_many(load_either, peer) -> None:
    backend = load_either(n_lanes=16, n_ctx=256)
    prompts = [f"{prompt} {number}" for number in range(6) for prompt in PROMPTS]
    streams = [backend.stream(prompt, max_tokens=40, temperature=0.0) for prompt in prompts]
    together = [stream.result().text for stream in streams]
    alone = [backend.chat(prompt, max_tokens=40, temperature=0.0).text for prompt in prompts]
    assert together == alone


def test_logprobs_are_the_models_own(load, peer) -> None:
    backend = load()
    answer = backend.generate("hello world", max_tokens=1, temperature=0.0, logprobs=5)
    model = llama_cpp.Llama(
        backend.path.as_posix(), n_ctx=512, n_threads=1, type_k=0, type_v=0, verbose=False, logits_all=True
    )
    tokens = model.tokenize(b"hello world", special=True)
    model.eval(tokens)
    logits = np.asarray(model.scores[len(tokens) - 1], np.float64)
    model.close()
    reference = np.sort(logits - np.log(np.exp(logits).sum()))[::-1][:5]
    assert np.allclose([entry.logprob for entry in answer.logprobs[0].top], reference, atol=1e-4)


def test_logit_bias_forces_and_forbids(load) -> None:
    backend = load()
    usual = backend.generate("hello", max_tokens=1, temperature=0.0, logprobs=0).logprobs[0].token
    number = backend._tokenizer.named(usual)
    assert number is not None
    barred = backend.generate("hello", max_tokens=1, temperature=0.0, logprobs=0, logit_bias={number: -100.0})
    assert barred.logprobs[0].token != usual
    forced = backend.generate("hello", max_tokens=3, temperature=1.0, seed=1, logprobs=0, logit_bias={65: 100.0})
    assert {entry.token_bytes for entry in forced.logprobs} == {backend._tokenizer.piece(65)}
    with pytest.raises(BadInput, match="100000"):
        backend.generate("hello", logit_bias={100000: 1.0})


def test_penalties_reduce_repetition(load) -> None:
    backend = load()

    def distinct(**options: float) -> int:
        answer = backend.generate("hello", max_tokens=60, temperature=0.0, logprobs=0, **options)
        return len({entry.token_bytes for entry in answer.logprobs})

    usual = distinct()
    assert distinct(presence_penalty=2.0) > usual
    assert distinct(frequency_penalty=2.0) > usual
    assert distinct(repeat_penalty=1.5) > usual
    with pytest.raises(BadInput, match="repeat_penalty"):
        distinct(repeat_penalty=0.0)


def test_sampling_settings_narrow_the_choice(load) -> None:
    backend = load()
    greedy = backend.generate("hello", max_tokens=16, temperature=0.0).text
    for options in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        assert backend.generate("hello", max_tokens=16, temperature=1.5, seed=1, **options).text == greedy
    wild = {backend.generate("hello", max_tokens=16, temperature=1.5, seed=seed).text for seed in range(4)}
    assert len(wild) == 4


def test_a_model_brings_its_own_sampling(tmp_path: Path, load) -> None:
    path = write_tiny_gguf(tmp_path / "cold.gguf", extra={"general.sampling.temp": 0.0})
    cold = load(model=path)
    assert cold.generate("hello", max_tokens=16).text == cold.generate("hello", max_tokens=16, temperature=0.0).text


def test_token_ids_are_a_prompt_too(load) -> None:
    from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest

    backend = load()
    options = GenerationOptions(max_tokens=8, temperature=0.0)
    tokens = tuple(backend._tokenizer.encode("hello world"))
    assert (
        backend.submit(GenerationRequest(tokens, options)).result().text
        == backend.submit(GenerationRequest("hello world", options)).result().text
    )
    for wrong in ((5, -1), (5, 600), ()):
        with pytest.raises(BadInput):
            backend.submit(GenerationRequest(wrong, options))


def test_the_context_ends_an_answer(load) -> None:
    backend = load(n_ctx=64)
    answer = backend.generate("hello world", temperature=0.0, logit_bias={backend._tokenizer.eos: -100.0})
    assert answer.finish_reason == "length"
    assert answer.usage.total_tokens == 64


def test_load_options_are_checked(load, tiny_model: Path) -> None:
    numbers = (("n_ctx", 0), ("n_lanes", -1), ("n_threads", 1.5))
    for name, value in (*numbers, ("kv_type", "q3"), ("kv_unified", "no"), ("n_contexts", 5)):
        with pytest.raises(BadInput, match=name):
            load(**{name: value})


def test_damaged_files_are_load_errors(tiny_model: Path, tmp_path: Path) -> None:
    whole = tiny_model.read_bytes()
    for name, content in {
        "half.gguf": whole[: len(whole) // 2],
        "empty.gguf": b"",
        "text.gguf": b"This is no model.",
        "header.gguf": whole[:100],
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(LoadError, match=name):
            GGUFLLMBackend(path)


def test_quantized_caches_load_and_answer(tmp_path: Path, load) -> None:
    wide = write_tiny_gguf(tmp_path / "wide.gguf", dim=128, heads=2, kv_heads=1)
    for kind in ("f16", "q8_0", "q4_0"):
        assert (
            load(model=wide, kv_type=kind, flash_attention=None)
            .generate("hello", max_tokens=4, temperature=0.0)
            .usage.completion_tokens
        )
    with pytest.raises(BadInput, match="q8_0"):
        load(kv_type="q8_0", flash_attention=None)  # its heads are too small for blocks of 32


def test_a_model_without_a_template_completes_only(tmp_path: Path, load) -> None:
    backend = load(model=write_tiny_gguf(tmp_path / "plain.gguf", template=None))
    with pytest.raises(Unsupported, match="chat template"):
        backend.chat("Hello!")
    assert backend.generate("hello", max_tokens=2).usage.completion_tokens
    given = load(model=backend.path, chat_template="{{ messages[0].content }}")
    assert given.count_tokens([{"role": "user", "content": "hello"}]) == given.count_tokens("hello")


def test_embedding_models_embed(tmp_path: Path, load) -> None:
    import gguf

    backend = load(model=write_tiny_gguf(tmp_path / "mean.gguf", pooling=gguf.PoolingType.MEAN))
    texts = [f"text number {number}" for number in range(40)]
    vectors, tokens = backend.embed(texts)
    assert vectors.shape == (40, 64)
    assert tokens == sum(backend.count_tokens(text) for text in texts)
    again, _ = backend.embed(texts[7:8])
    assert np.allclose(again[0], vectors[7], atol=1e-4)
    with pytest.raises(BadInput, match="context"):
        backend.embed(["word " * 1000])


def test_llama_cpps_lines_go_to_the_log(load, capfd, caplog) -> None:
    caplog.set_level("DEBUG", logger="llama_pajamas_run_gguf.logs")
    load()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert any("llama" in record.message for record in caplog.records)


def test_unloading_frees_memory(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    path = write_tiny_gguf(tmp_path / "big.gguf", dim=256, layers=4)
    code = f"""
import psutil
from llama_pajamas_run_gguf.llm import GGUFLLMBackend
sizes = []
for number in range(48):
    with GGUFLLMBackend({str(path)!r}, n_ctx=2048, n_lanes=4, n_threads=1) as backend:
        backend.generate("hello", max_tokens=4)
        backend.embed(["hello"])
    sizes.append(psutil.Process().memory_info().rss)
print((max(sizes[36:]) - max(sizes[6:18])) / 2**20)
"""
    # Arenas for each thread, and large blocks from the heap, are how glibc keeps freed memory, which looks like a leak.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8
