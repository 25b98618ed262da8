"""Prompts of random words with an exact number of tokens."""

import bisect
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import llama_cpp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from support.tiny_gguf import TEXT

from llama_pajamas_run_gguf import logs
from llama_pajamas_run_gguf.tokenizer import Tokenizer

_WORDS = sorted(set(re.findall(r"[a-z]{2,}", TEXT)))


class Prompts:
    """Makes prompts for one model, always the same for the same seed.

    Args:
        path: the GGUF file, of which only the vocabulary is read.
        seed: of the words.

    Raises:
        ValueError: the file cannot be loaded.
    """

    def __init__(self, path: Path, seed: int) -> None:
        logs.install()  # llama.cpp writes to stderr otherwise
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ValueError(f"{path} could not be loaded")
        self._tokenizer = Tokenizer(llama_cpp.llama_model_get_vocab(self._model), 10**6)
        self._seed = seed

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self._tokenizer.eos

    def count(self, text: str) -> int:
        """How many tokens a text has as a prompt, with those that are put before it."""
        return len(self._tokenizer.encode(text))

    def make(self, tokens: int, *key: object, after: str = "") -> str:
        """A prompt.

        Args:
            tokens: how many it has, counting those of the text before it.
            key: what it is for; other keys give other words.
            after: the text it continues.

        Raises:
            ValueError: no text of that many tokens was found.
        """
        rng = random.Random("/".join(map(str, (self._seed, *key))))
        words = [rng.choice(_WORDS) for _ in range(tokens)]

        def text(used: Sequence[str]) -> str:
            return " ".join([after, *used] if after else used)

        used = words[: bisect.bisect_right(range(tokens + 1), tokens, key=lambda n: self.count(text(words[:n]))) - 1]
        while (short := tokens - self.count(text(used))) > 0:
            used.append("a")
            if tokens - self.count(text(used)) >= short:
                break
        if self.count(text(used)) != tokens:
            raise ValueError(f"no prompt of exactly {tokens} tokens was found for this vocabulary")
        return text(used)
