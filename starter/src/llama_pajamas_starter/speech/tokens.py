"""GPT-2's byte-pair vocabulary as Whisper's English-only models use it.

``gpt2.tiktoken.xz`` is the vocabulary file of openai-whisper (MIT licence), compressed: one token a line, its bytes in
base64 and its rank.
"""

import base64
import functools
import lzma
import re
from collections.abc import Iterable
from importlib import resources
from typing import Final

from llama_pajamas_starter.speech.lexicon import words

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

_LANGUAGES: Final = words(
    """
    en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi
    ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd
    gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su
    """
)
# The pattern of GPT-2's tokenizer, with the standard library's classes for \p{L} and \p{N}.
_PIECES: Final = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


@functools.cache
def text_tokens() -> tuple[bytes, ...]:
    """The bytes of every text token, by id (50256 of them; the special tokens follow)."""
    data = lzma.decompress(resources.files(__package__).joinpath("gpt2.tiktoken.xz").read_bytes())
    pairs = (line.split() for line in data.splitlines() if line)
    ranked = sorted((int(rank), base64.b64decode(token)) for token, rank in pairs)
    return tuple(token for _, token in ranked)


@functools.cache
def special_tokens() -> dict[str, int]:
    """The names of the special tokens, "<|endoftext|>" to "<|30.00|>", and their ids."""
    names = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{language}|>" for language in _LANGUAGES)]
    names += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    names += [f"<|{index * TIMESTAMP_STEP:.2f}|>" for index in range(TIMESTAMPS)]
    return {name: END_OF_TEXT + index for index, name in enumerate(names)}


@functools.cache
def _ranks() -> dict[bytes, int]:
    return {token: rank for rank, token in enumerate(text_tokens())}


@functools.cache
def _encode_piece(piece: bytes) -> tuple[int, ...]:
    ranks = _ranks()
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 1:
        candidates = [(ranks.get(parts[i] + parts[i + 1], len(ranks)), i) for i in range(len(parts) - 1)]
        rank, index = min(candidates)
        if rank == len(ranks):
            break
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return tuple(ranks[part] for part in parts)


def encode(text: str) -> list[int]:
    """Text to token ids. A transcript begins with a space: ``encode(" Hello.")``."""
    return [token for piece in _PIECES.findall(text) for token in _encode_piece(piece.encode())]


def decode(tokens: Iterable[int]) -> str:
    """Token ids to text; special tokens are left out."""
    known = text_tokens()
    return b"".join(known[token] for token in tokens if token < END_OF_TEXT).decode(errors="replace")


def timestamp(seconds: float) -> int:
    """The token of a time from 0 to 30 seconds, to the nearest 20 milliseconds."""
    return FIRST_TIMESTAMP + min(TIMESTAMPS - 1, max(0, round(seconds / TIMESTAMP_STEP)))
