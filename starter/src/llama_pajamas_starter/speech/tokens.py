"""GPT-2's byte-pair vocabulary as Whisper's English-only models use it: run-core's, and the numbers of its tokens."""

import functools
from collections.abc import Iterable
from typing import Final

from llama_pajamas_run_core.whisper.vocabulary import Vocabulary

#: Token ids of the English-only vocabulary (51864 tokens).
END_OF_TEXT: Final = 50256
START_OF_TRANSCRIPT: Final = 50257
START_OF_PREVIOUS: Final = 50360
NO_SPEECH: Final = 50361
NO_TIMESTAMPS: Final = 50362
FIRST_TIMESTAMP: Final = 50363
TIMESTAMPS: Final = 1501
VOCABULARY_SIZE: Final = 51864
#: Seconds from one timestamp token to the next.
TIMESTAMP_STEP: Final = 0.02


@functools.cache
def _vocabulary() -> Vocabulary:
    return Vocabulary.of(VOCABULARY_SIZE)


def text_tokens() -> tuple[bytes, ...]:
    """The bytes of every text token, by id (50256 of them; the special tokens follow)."""
    return _vocabulary().texts


@functools.cache
def special_tokens() -> dict[str, int]:
    """The names of the special tokens, "<|endoftext|>" to "<|30.00|>", and their ids."""
    names = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{language}|>" for language in _vocabulary().languages)]
    names += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    names += [f"<|{index * TIMESTAMP_STEP:.2f}|>" for index in range(TIMESTAMPS)]
    return {name: END_OF_TEXT + index for index, name in enumerate(names)}


def encode(text: str) -> list[int]:
    """Text to token ids. A transcript begins with a space: ``encode(" Hello.")``."""
    return _vocabulary().encode(text)


def decode(tokens: Iterable[int]) -> str:
    """Token ids to text; special tokens are left out."""
    known = text_tokens()
    return b"".join(known[token] for token in tokens if token < END_OF_TEXT).decode(errors="replace")


def timestamp(seconds: float) -> int:
    """The token of a time from 0 to 30 seconds, to the nearest 20 milliseconds."""
    return FIRST_TIMESTAMP + min(TIMESTAMPS - 1, max(0, round(seconds / TIMESTAMP_STEP)))
