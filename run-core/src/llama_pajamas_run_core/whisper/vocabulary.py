"""Whisper's vocabularies: GPT-2's for English, OpenAI's own for many languages.

The files are openai-whisper's (MIT licence), compressed: one token a line, its bytes in base64 and its rank.
"""

import base64
import functools
import lzma
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.text.unicode import well_formed

#: In the order of their tokens; the hundredth came with large-v3.
_LANGUAGES: Final = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split()
#: The vocabulary for English alone, and from which size on it is that for many languages.
_ENGLISH_SIZE: Final = 51_864
_MULTILINGUAL_SIZE: Final = 51_865
# The pattern of GPT-2's tokenizer, with the standard library's classes for \p{L} and \p{N}.
_PIECES: Final = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
_SYMBOLS: Final = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *"<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} \u266a\u266a \u266a\u266a\u266a".split(),
)
_MUSIC: Final = "\u2669\u266a\u266b\u266c\u266d\u266e\u266f"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of one model.

    Attributes:
        texts: the bytes of each text token, by id.
        languages: ISO 639-1 codes.
        multilingual: whether it knows languages other than English.
    """

    texts: tuple[bytes, ...]
    languages: tuple[str, ...]
    multilingual: bool

    @classmethod
    def of(cls, size: int) -> "Vocabulary":
        """The vocabulary of a model with so many tokens.

        Raises:
            LoadError: it has too few for one of Whisper's vocabularies.
        """
        if size < _ENGLISH_SIZE:
            raise LoadError(f"A vocabulary of {size} tokens is none of Whisper's: they have at least {_ENGLISH_SIZE}.")
        multilingual = size >= _MULTILINGUAL_SIZE
        count = min(size - 51_765 - multilingual, len(_LANGUAGES))
        return cls(_texts("multilingual" if multilingual else "english"), tuple(_LANGUAGES[:count]), multilingual)

    @property
    def end(self) -> int:
        """The token that ends a transcript."""
        return len(self.texts)

    @property
    def start(self) -> int:
        """The token that begins one."""
        return self.end + 1

    def language(self, code: str) -> int:
        """The token of a language."""
        return self.start + 1 + self.languages.index(code)

    @property
    def translate(self) -> int:
        """The token for a translation; behind it transcribe, start of LM, start of previous, no speech, no times."""
        return self.start + 1 + len(self.languages)

    @property
    def transcribe(self) -> int:
        """The token for a transcript."""
        return self.translate + 1

    @property
    def previous(self) -> int:
        """The token before the text that precedes the audio."""
        return self.translate + 3

    @property
    def no_speech(self) -> int:
        """The token whose probability at the start is that of silence."""
        return self.translate + 4

    @property
    def no_times(self) -> int:
        """The token that asks for a transcript without times."""
        return self.translate + 5

    @property
    def first_time(self) -> int:
        """The token of the time 0.00."""
        return self.translate + 6

    def opening(self, language: str, *, translate: bool) -> list[int]:
        """The tokens that a transcript begins with."""
        if not self.multilingual:
            return [self.start]
        return [self.start, self.language(language), self.translate if translate else self.transcribe]

    def encode(self, text: str) -> list[int]:
        """Text to token ids."""
        name = "multilingual" if self.multilingual else "english"
        return [token for piece in _PIECES.findall(well_formed(text)) for token in _merged(piece, name)]

    def suppressed(self) -> list[int]:
        """Tokens that no transcript has: control tokens, and signs for what is not speech."""
        return [
            *_not_speech(self), self.start, self.translate, self.transcribe, self.translate + 2, self.previous,
            self.no_speech, self.no_times, *range(self.start + 1, self.translate),
        ]  # fmt: skip


def _not_speech(vocabulary: Vocabulary) -> set[int]:
    """As openai-whisper's ``non_speech_tokens``."""
    found = {vocabulary.encode(" -")[0], vocabulary.encode(" '")[0]}
    for symbol in (*_SYMBOLS, *_MUSIC):
        for tokens in (vocabulary.encode(symbol), vocabulary.encode(f" {symbol}")):
            if len(tokens) == 1 or symbol in _MUSIC:
                found.add(tokens[0])
    return found


@functools.cache
def _texts(name: str) -> tuple[bytes, ...]:
    data = lzma.decompress(resources.files(__package__).joinpath(f"{name}.tiktoken.xz").read_bytes())
    pairs = (line.split() for line in data.splitlines() if line)
    # One line of the vocabulary for many languages has no text: the token is never used.
    ranked = sorted((int(pair[-1]), base64.b64decode(pair[0]) if len(pair) == 2 else b"") for pair in pairs)
    return tuple(token for _, token in ranked)


@functools.cache
def _ranks(name: str) -> dict[bytes, int]:
    return {token: rank for rank, token in enumerate(_texts(name))}


@functools.lru_cache(1 << 14)
def _merged(piece: str, name: str) -> tuple[int, ...]:
    """The tokens of a word, by byte-pair encoding."""
    data, ranks = piece.encode(), _ranks(name)
    parts = [data[i : i + 1] for i in range(len(data))]
    while len(parts) > 1:
        rank, index = min((ranks.get(parts[i] + parts[i + 1], len(ranks)), i) for i in range(len(parts) - 1))
        if rank == len(ranks):
            break
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return tuple(ranks[part] for part in parts)
