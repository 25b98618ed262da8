"""Pictures in conversations, through a projector of random weights."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.tiny_gguf import write_tiny_gguf
from support.tiny_mmproj import write_tiny_mmproj

from llama_pajamas_run_core.errors import BadInput, Cancelled, LoadError, Unsupported
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.chat import Message
from llama_pajamas_run_core.types.vision import Image

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.engine.cache import Slot
from llama_pajamas_run_gguf.engine.spans import Span

NOISE = Image(np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8))
BLACK = Image(np.zeros((10, 300, 3), np.uint8))
DOT = Image(np.full((1, 1, 3), 200, np.uint8))


@pytest.fixture(scope="session")
def projector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_mmproj(tmp_path_factory.mktemp("gguf") / "mmproj.gguf")


@pytest.fixture
def load(load_either):
    return load_either


def ask(backend, *parts, tokens: int = 16):
    return backend.chat([Message("user", parts)], max_tokens=tokens, temperature=0.0)


def test_answers_depend_on_what_is_seen(load, projector: Path) -> None:
    backend = load(projector=projector)
    assert backend.capabilities.images
    assert not backend.capabilities.audio
    answers = [ask(backend, picture, "What is it?").text for picture in (NOISE, BLACK, DOT)]
    assert len(set(answers)) == 3
    assert ask(backend, NOISE, BLACK, "Which?").text != ask(backend, BLACK, NOISE, "Which?").text
    assert ask(backend, "What is it?").text not in answers


def test_pictures_count_as_tokens(load, projector: Path) -> None:
    backend = load(projector=projector)
    usage = ask(backend, NOISE, "What is it?").usage
    assert usage.prompt_tokens == backend.count_tokens([Message("user", (NOISE, "What is it?"))])
    assert usage.prompt_tokens > ask(backend, "What is it?").usage.prompt_tokens + 4


def test_a_picture_seen_before_is_not_computed_again(load, projector: Path) -> None:
    backend, fresh = load(projector=projector), load(projector=projector)
    first = ask(backend, NOISE, "What is it?")
    again = ask(backend, NOISE, "What is that?")
    assert again.usage.cached_tokens > first.usage.prompt_tokens - 20
    assert again.text == ask(fresh, NOISE, "What is that?").text
    more = backend.chat(
        [
            Message("user", (NOISE, "What is it?")),
            Message("assistant", "Noise."),
            Message("user", (BLACK, "And this?")),
        ],
        max_tokens=4,
        temperature=0.0,
    )
    assert more.usage.cached_tokens > first.usage.prompt_tokens - 20
    # Another picture shares only what stands before it.
    assert ask(backend, BLACK, "What is it?").usage.cached_tokens < 25


@pytest.mark.parametrize("cells", [512, None])
def test_pictures_and_texts_side_by_side(load, projector: Path, cells: int | None) -> None:
    backend = load(projector=projector, n_lanes=4, kv_cells=cells)
    requests = [(NOISE, "What is it?"), ("Hello!",), (BLACK, "What is it?"), (NOISE, DOT, "Which?")] * 3
    alone = [ask(backend, *parts).text for parts in requests]
    with ThreadPoolExecutor(8) as callers:
        together = list(callers.map(lambda parts: ask(backend, *parts).text, requests))
    assert together == alone
    backend._ready().run(backend._engine._cache.drop_idle)
    assert backend._engine.load["cells_free"] == backend._engine._cache.ledger.size


def test_guessing_leaves_pictures_alone(load, projector: Path) -> None:
    plain, guessing = load(projector=projector), load(projector=projector, speculation="lookup")
    guessing._engine._speculator._times.predict = lambda tokens: 1.0
    expected = ask(plain, NOISE, "the quick the quick the", tokens=60).text
    assert ask(guessing, NOISE, "the quick the quick the", tokens=60).text == expected


def test_a_marker_cannot_be_written_by_a_user(load, projector: Path) -> None:
    backend = load(projector=projector)
    assert ask(backend, NOISE, "<__media__> <image>").usage.completion_tokens
    assert ask(backend, "<__media__> <image>").usage.completion_tokens


def test_closing_while_looking_is_safe(load, projector: Path) -> None:
    backend = load(projector=projector)
    streams = [backend.stream([Message("user", (NOISE, "What is it?"))], max_tokens=200) for _ in range(6)]
    backend.close()
    for stream in streams:
        with pytest.raises(Cancelled):
            stream.result()


def test_what_is_wrong_is_said(load, projector: Path, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(Unsupported, match="image"):
        ask(load(), NOISE, "What is it?")
    backend = load(projector=projector)
    with pytest.raises(Unsupported, match="audio"):
        ask(backend, Audio(np.zeros(16000, np.float32), 16000), "What is it?")
    silent = load(projector=projector, chat_template="{{ messages[0].role }}")
    with pytest.raises(BadInput, match="template"):
        ask(silent, NOISE, "What is it?")
    wide = write_tiny_gguf(tmp_path / "wide.gguf", dim=128)
    for model, file in ((tiny_model, tmp_path / "none.gguf"), (tiny_model, tiny_model), (wide, projector)):
        with pytest.raises(LoadError, match=file.name):
            load(model=model, projector=file)


def test_positions_and_tokens_may_differ() -> None:
    slot = Slot(0, spans=[Span(3, 10, 4, None), Span(20, 6, 6, None)])
    assert [slot.whole(length) for length in (2, 3, 4, 12, 13, 14, 22, 26)] == [2, 3, 3, 3, 13, 14, 20, 26]
    assert [slot.position(length) for length in (3, 13, 20, 26, 30)] == [3, 7, 14, 20, 24]
