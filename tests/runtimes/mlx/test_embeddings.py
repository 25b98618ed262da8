"""Embeddings: llama.cpp's vectors of the same model, whatever stands beside a text."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed", exc_type=ImportError)

from llama_pajamas_run_core.errors import ContextTooLong, InferenceError, OutOfMemory
from llama_pajamas_run_mlx.llm import MLXLLMBackend

TEXTS = ["What is twelve plus thirty?", "Hello!", "Turn on the lamp in the living room, please."] * 7


def test_vectors_are_llama_cpps(starter_chat: Path, starter_gguf: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from llama_pajamas_run_gguf.llm import GGUFLLMBackend

    with MLXLLMBackend(starter_chat, n_ctx=64, dtype="float32") as backend:
        assert backend.capabilities.embeddings
        vectors, tokens = backend.embed(TEXTS)
        assert vectors.shape == (21, 160)
        assert tokens == sum(backend.count_tokens(text) for text in TEXTS)
        assert np.allclose(vectors[:3], backend.embed(TEXTS[:3])[0], atol=1e-5)
        assert np.allclose(vectors[1], backend.embed([tuple(backend._tokenizer.encode("Hello!"))])[0][0], atol=1e-5)
        with pytest.raises(ContextTooLong):
            backend.embed(["word " * 200])
    with GGUFLLMBackend(starter_gguf, n_ctx=64) as peer:
        others, _ = peer.embed(TEXTS[:3])
    assert ((vectors[:3] * others).sum(axis=1) > 0.9999).all()


@pytest.mark.parametrize(("mode", "place"), [("pooling_mode_lasttoken", -1), ("pooling_mode_cls_token", 0)])
def test_the_makers_pooling_is_used(starter_chat: Path, tmp_path: Path, mode: str, place: int) -> None:
    copy = Path(shutil.copytree(starter_chat, tmp_path / "model"))
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({mode: True}))
    with MLXLLMBackend(copy, dtype="float32") as backend, MLXLLMBackend(starter_chat, dtype="float32") as mean:
        tokens = tuple(backend._tokenizer.encode("Turn on the lamp."))
        alone = backend.embed([tokens])[0][0]
        # The first token sees itself alone; what the last one sees, one token more leaves as it is only in "first".
        longer = backend.embed([(*tokens, tokens[0]), tokens])[0]
        assert np.allclose(longer[1], alone, atol=1e-5)
        assert np.allclose(longer[0], alone, atol=1e-5) == (place == 0)
        if place == 0:
            assert np.allclose(alone, mean.embed([tokens[:1]])[0][0], atol=1e-5)


@pytest.mark.parametrize(("said", "error"), [("[malloc] too much", OutOfMemory), ("shapes differ", InferenceError)])
def test_what_fails_while_computing_is_one_of_our_errors(starter_chat: Path, said: str, error: type) -> None:
    def fails(_: object) -> None:
        raise RuntimeError(said)

    with MLXLLMBackend(starter_chat) as backend:
        backend._embedder._backbone = fails
        with pytest.raises(error, match=said.split()[1]):
            backend.embed(["Hello!"])
