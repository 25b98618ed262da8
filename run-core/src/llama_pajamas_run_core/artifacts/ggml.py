"""whisper.cpp's model files, checked before native code sees them.

Format: ``convert-pt-to-ggml.py`` and ``whisper.cpp`` of https://github.com/ggml-org/whisper.cpp: magic, eleven sizes,
mel filters, vocabulary, then the tensors one after the other, each with its name, to the end of the file.
"""

import struct
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.artifacts.gguf import BLOCKS
from llama_pajamas_run_core.artifacts.reader import Reader, open_reader
from llama_pajamas_run_core.errors import BadInput

MAGIC: Final = b"lmgg"  # 0x67676d6c in little-endian order
#: whisper.cpp puts special tokens at the ids of Whisper's own vocabularies; a smaller one would be read out of bounds.
_MIN_VOCABULARY: Final = 51_864
_HYPERPARAMETERS, _PAIR, _I32, _TENSOR = (
    struct.Struct("<11i"),
    struct.Struct("<2i"),
    struct.Struct("<i"),
    struct.Struct("<3i"),
)


@dataclass(frozen=True, slots=True)
class WhisperHeader:
    """The sizes of a Whisper model.

    Attributes:
        n_vocab: rows of the vocabulary; 51,864 for English-only models, more for multilingual ones.
        n_audio_ctx: positions of the encoder.
        n_audio_state: width of the encoder.
        n_audio_head: attention heads of the encoder.
        n_audio_layer: layers of the encoder.
        n_text_ctx: positions of the decoder.
        n_text_state: width of the decoder.
        n_text_head: attention heads of the decoder.
        n_text_layer: layers of the decoder.
        n_mels: mel bands.
        ftype: the precision of the matrices, with a format version in the thousands.
    """

    n_vocab: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int
    n_mels: int
    ftype: int

    @property
    def multilingual(self) -> bool:
        """Whether it knows languages other than English."""
        return self.n_vocab >= 51_865

    @property
    def tensors(self) -> int:
        """How many tensors such a model has."""
        return 11 + 15 * self.n_audio_layer + 24 * self.n_text_layer


def check_ggml_whisper(path: str | PathLike[str]) -> WhisperHeader:
    """Read a whisper.cpp file and see that it holds all of its model.

    Args:
        path: the file.

    Raises:
        BadInput: there is no such file, or it is no whisper.cpp file.
        LoadError: it is damaged; the message names the file and what is wrong.
    """
    path = Path(path)
    with open_reader(path, "whisper.cpp file") as reader:
        magic = reader.take(4, "the magic number") if reader.end >= 4 else b""
        if magic != MAGIC:
            raise BadInput(f"{path} is no whisper.cpp file: it begins with {magic!r}.", param="model")
        header = WhisperHeader(*reader.unpack(_HYPERPARAMETERS, "the header"))
        _check_sizes(reader, header)
        _skip_filters(reader, header)
        _skip_vocabulary(reader)
        _skip_tensors(reader, header)
        return header


def _check_sizes(reader: Reader, header: WhisperHeader) -> None:
    for name in WhisperHeader.__slots__:
        value = getattr(header, name)
        if not 0 < value <= 1 << 20 and name != "ftype":
            raise reader.fail(f"{name} is {value}")
    if header.n_vocab < _MIN_VOCABULARY:
        raise reader.fail(f"n_vocab is {header.n_vocab}, but Whisper's vocabularies have at least {_MIN_VOCABULARY}")
    for part in ("audio", "text"):
        state, heads = getattr(header, f"n_{part}_state"), getattr(header, f"n_{part}_head")
        if state % heads:
            raise reader.fail(f"n_{part}_state {state} is not a multiple of n_{part}_head {heads}")


def _skip_filters(reader: Reader, header: WhisperHeader) -> None:
    bands, bins = reader.unpack(_PAIR, "the mel filters")
    if bands != header.n_mels or not 0 < bins <= 1 << 16:
        raise reader.fail(f"the mel filters are {bands} x {bins}, but n_mels is {header.n_mels}")
    reader.skip(bands * bins * 4, "the mel filters")


def _skip_vocabulary(reader: Reader) -> None:
    (count,) = reader.unpack(_I32, "the vocabulary")
    if not 0 <= count * 4 <= reader.end - reader.at:
        raise reader.cut(reader.at + max(count, 0) * 4, "the vocabulary")
    for _ in range(count):
        (length,) = reader.unpack(_I32, "the vocabulary")
        reader.skip(length, "the vocabulary")


def _skip_tensors(reader: Reader, header: WhisperHeader) -> None:
    found = 0
    while reader.at < reader.end:
        whole = f"{found} of {header.tensors} tensors are whole; the next"
        dimensions, length, kind = reader.unpack(_TENSOR, whole)
        if not 1 <= dimensions <= 4 or not 0 < length <= 256 or kind not in BLOCKS:
            raise reader.fail(f"after {found} of {header.tensors} tensors come bytes that are no tensor")
        shape = reader.unpack(struct.Struct(f"<{dimensions}i"), whole)
        name = reader.take(length, whole).decode("utf-8", "replace")
        values, size = BLOCKS[kind]
        if min(shape) < 1 or shape[0] % values:
            raise reader.fail(f"the tensor {name} has the impossible shape {'x'.join(map(str, shape))}")
        reader.skip(prod(shape) // values * size, f"the tensor {name} ({found} of {header.tensors} are whole)")
        found += 1
    if found != header.tensors:
        raise reader.fail(
            f"it holds {found} of the {header.tensors} tensors of such a model",
            "It may have been cut short while it was copied or downloaded: fetch it again.",
        )
