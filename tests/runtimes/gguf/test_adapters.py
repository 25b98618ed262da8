"""LoRA adapters: loaded at any time, chosen per request, and never mixed up."""

from pathlib import Path

import pytest
from support.tiny_lora import write_adapter

from llama_pajamas_run_core.errors import BadInput, Busy, LoadError

pytest.importorskip("llama_cpp")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_adapter(tmp_path / "one.gguf"), write_adapter(tmp_path / "two.gguf", seed=2)


def greedy(backend, adapter: str | None = None, prompt: str = "the quick brown fox jumps over") -> str:
    return backend.generate(prompt, max_tokens=24, temperature=0.0, adapter=adapter).text


def test_each_request_gets_its_adapter(load, files) -> None:
    backend = load(adapters={"one": files[0]})
    plain = greedy(backend)
    backend.load_adapter("two", files[1])
    answers = {name: greedy(backend, name) for name in (None, "one", "two")}
    assert answers[None] == plain
    assert len(set(answers.values())) == 3
    assert backend.details["adapters"] == ["one", "two"]


def test_adapters_do_not_share_the_cache(load, files) -> None:
    backend = load(adapters={"one": files[0]})
    prompt = "a small model runs on the edge, and the edge is where the llama sleeps"
    fresh = load(adapters={"one": files[0]})
    expected = greedy(fresh, "one", prompt)
    greedy(backend, None, prompt)
    assert greedy(backend, "one", prompt) == expected
    assert backend.generate(prompt, max_tokens=1, adapter="one").usage.cached_tokens > 0


def test_requests_of_several_adapters_run_side_by_side(load, files) -> None:
    backend = load(n_lanes=6, adapters={"one": files[0], "two": files[1]})
    names = [None, "one", "two"] * 4
    alone = {name: greedy(backend, name) for name in set(names)}
    streams = [
        backend.stream("hello world, how are you", max_tokens=40, temperature=0.0, adapter=name) for name in names
    ]
    together = [stream.result().text for stream in streams]
    again = [
        backend.chat("hello world, how are you", max_tokens=40, temperature=0.0, adapter=name).text for name in names
    ]
    assert together == again
    assert {name: greedy(backend, name) for name in set(names)} == alone


def test_a_request_whose_adapter_goes_before_its_turn_is_told(load, files) -> None:
    backend = load(adapters={"one": files[0]})
    find = backend._adapters.find

    def found_and_gone(name: str | None):
        adapter = find(name)
        backend._adapters.find = find
        backend.unload_adapter("one")
        return adapter

    backend._adapters.find = found_and_gone
    with pytest.raises(BadInput, match="no adapter 'one'"):  # and nothing that was freed is used
        greedy(backend, "one")
    assert greedy(backend)


def test_a_scale_of_zero_changes_nothing(load, files) -> None:
    backend = load()
    backend.load_adapter("off", files[0], scale=0.0)
    assert greedy(backend, "off") == greedy(backend)


def test_what_is_wrong_is_said(load, files, tmp_path: Path) -> None:
    backend = load(adapters={"one": files[0]})
    with pytest.raises(BadInput, match="one") as raised:
        greedy(backend, "none such")
    assert raised.value.param == "adapter"
    with pytest.raises(BadInput, match="already"):
        backend.load_adapter("one", files[1])
    for path in (tmp_path / "none.gguf", backend.path, write_adapter(tmp_path / "wide.gguf", dim=96)):
        with pytest.raises(LoadError, match=path.name):
            backend.load_adapter("other", path)
    assert greedy(backend, "one")


def test_an_adapter_in_use_stays(load, files) -> None:
    backend = load(n_ctx=1024, adapters={"one": files[0]})
    stream = iter(backend.stream("hello", max_tokens=900, temperature=0.0, adapter="one"))
    next(stream)
    with pytest.raises(Busy):
        backend.unload_adapter("one")
    stream.close()
    plain = greedy(backend)
    greedy(backend, "one")
    backend.unload_adapter("one")
    assert greedy(backend) == plain
    with pytest.raises(BadInput):
        greedy(backend, "one")
    backend.load_adapter("one", files[1])
    assert greedy(backend, "one")
