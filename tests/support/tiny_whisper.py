"""A whisper.cpp model that recites: every weight is zero but the embeddings, whose positions spell out a transcript.

With attention and feed-forward layers silent, the decoder's state at a position is that position's embedding, which is
made to point at the token that comes next. So whatever it hears, the model says the same, with the same timestamps and
in the same language: what surrounds the model can be tested to the letter.

The format is that of ``convert-pt-to-ggml.py`` of whisper.cpp.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llama_pajamas_run_core.types.audio import Transcript

#: Width of the model; each token of the transcript takes one of its directions.
WIDTH = 64
#: More than two decoder layers, or whisper.cpp takes the model for a distilled one and forbids timestamps.
LAYERS = 3
_LANGUAGES = 99
_EMBEDDING = 4.0

#: (tokens, start, end): what is said, in tokens whose words begin with a space, and its times in seconds. Without an
#: end the model breaks off.
Phrase = tuple[Sequence[str], float, float | None]
TRANSCRIPT: tuple[Phrase, ...] = (
    ((" Hello", " brave", " world", "."), 0.0, 0.8),
    ((" Good", "bye", "."), 0.8, 1.5),
)
#: The same as a backend hears it: each segment's text, start and end, as :func:`told` gives them.
SEGMENTS = [("Hello brave world.", 0.0, 0.8), ("Goodbye.", 0.8, 1.5)]


class Vocabulary:
    """The ids of Whisper's English-only or multilingual vocabulary, with made-up text tokens."""

    def __init__(self, multilingual: bool) -> None:
        self.size = 51_865 if multilingual else 51_864
        self.end = 50_257 if multilingual else 50_256
        self.start = self.end + 1
        self.first_language = self.start + 1
        self.translate = self.first_language + _LANGUAGES
        self.transcribe, self.previous = self.translate + 1, self.translate + 3
        self.no_speech, self.no_timestamps = self.translate + 4, self.translate + 5
        self.first_time = self.translate + 6
        self.texts = [bytes([byte]) for byte in range(256)]
        self.texts += [b" #%d" % number for number in range(256, self.end)]
        self.multilingual = multilingual

    def add(self, text: str) -> int:
        """The id of a text token; it takes the place of a made-up one."""
        encoded = text.encode()
        if encoded not in self.texts:
            self.texts[300 + sum(not text.startswith(b" #") for text in self.texts[300:])] = encoded
        return self.texts.index(encoded)

    def time(self, seconds: float) -> int:
        """The id of a timestamp."""
        return self.first_time + round(seconds / 0.02)


def write(
    path: Path,
    transcript: Sequence[Phrase] = TRANSCRIPT,
    *,
    language: int | None = None,
    no_speech: float = 0.0,
    confidence: float = 1.0,
) -> Path:
    """Write a model.

    Args:
        path: the file.
        transcript: what it says.
        language: index of the language it detects in whisper.cpp's list (0 is English, 2 German); None for an
            English-only model.
        no_speech: from 0 to 1, how much it takes everything for silence.
        confidence: from 0 to 1, how far the right word stands out; at 0.3 it is right, but far from sure.
    """
    vocabulary = Vocabulary(language is not None)
    embedding, positions = recitation(vocabulary, transcript, language, no_speech=no_speech, confidence=confidence)
    _write(path, vocabulary, embedding, positions)
    return path


def told(made: Transcript) -> list[tuple[str, float, float]]:
    """The segments' texts, and their times in seconds from the first one's start, which the sound decides."""
    first = made.segments[0].start
    return [(one.text, round(one.start - first, 2), round(one.end - first, 2)) for one in made.segments]


def recitation(
    vocabulary: Vocabulary,
    transcript: Sequence[Phrase],
    language: int | None,
    *,
    no_speech: float = 0.0,
    confidence: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The embedding of the tokens and of the positions, of a model that says the transcript."""
    # What it reads before it speaks: the start, and in several languages the language and the task.
    prompt = 1 if language is None else 3
    said: list[int] = []
    for words, start, end in transcript:
        said += [vocabulary.time(start), *map(vocabulary.add, words)]
        said += [] if end is None else [vocabulary.time(end)]
    said.append(vocabulary.end)

    embedding = np.zeros((vocabulary.size, WIDTH), np.float32)
    positions = np.zeros((448, WIDTH), np.float32)
    special = [vocabulary.no_speech] + ([] if language is None else [vocabulary.first_language + language])
    directions = {token: index for index, token in enumerate(dict.fromkeys([*said, *special]))}
    if len(directions) > WIDTH:
        raise ValueError("the transcript has too many different tokens")
    basis = _basis()
    for token, index in directions.items():
        embedding[token] = basis[index] * _EMBEDDING * (1.0 if token in special else confidence)
    for place, token in enumerate(said):
        positions[prompt - 1 + place] = basis[directions[token]] * 20
    positions[0] += basis[directions[vocabulary.no_speech]] * (40 * no_speech)
    if language is not None:
        positions[0] = basis[directions[vocabulary.first_language + language]] * 20
    return embedding, positions


def _basis() -> np.ndarray:
    """Orthogonal directions of mean zero, which the layer normalization leaves as they are."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((WIDTH - 1, WIDTH))
    vectors -= vectors.mean(axis=1, keepdims=True)
    orthogonal, _ = np.linalg.qr(vectors.T)
    return orthogonal.T.astype(np.float32)


def _write(path: Path, vocabulary: Vocabulary, embedding: np.ndarray, positions: np.ndarray) -> None:
    filters = np.ones((80, 201), np.float32) / 201
    with path.open("wb") as file:
        sizes = (vocabulary.size, 1500, WIDTH, 1, 1, 448, WIDTH, 1, LAYERS, 80, 1)
        file.write(struct.pack("<12i", 0x67676D6C, *sizes))
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        file.write(struct.pack("<i", len(vocabulary.texts)))
        for text in vocabulary.texts:
            file.write(struct.pack("<i", len(text)) + text)
        for name, array in tensors(embedding, positions):
            half = array.ndim >= 2 and not name.endswith(("positional_embedding", "conv1.bias", "conv2.bias"))
            encoded = name.encode()
            file.write(struct.pack("<3i", array.ndim, len(encoded), int(half)))
            file.write(struct.pack(f"<{array.ndim}i", *array.shape[::-1]) + encoded)
            file.write(array.astype(np.float16 if half else np.float32).tobytes())


def tensors(embedding: np.ndarray, positions: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """All tensors under openai-whisper's names."""

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    made = [
        ("encoder.positional_embedding", zeros(1500, WIDTH)),
        ("encoder.conv1.weight", zeros(WIDTH, 80, 3)),
        ("encoder.conv1.bias", zeros(WIDTH, 1)),
        ("encoder.conv2.weight", zeros(WIDTH, WIDTH, 3)),
        ("encoder.conv2.bias", zeros(WIDTH, 1)),
        ("encoder.ln_post.weight", np.ones(WIDTH, np.float32)),
        ("encoder.ln_post.bias", zeros(WIDTH)),
        ("decoder.positional_embedding", positions),
        ("decoder.token_embedding.weight", embedding),
        ("decoder.ln.weight", np.ones(WIDTH, np.float32)),
        ("decoder.ln.bias", zeros(WIDTH)),
    ]
    blocks = [("encoder.blocks.0", False), *((f"decoder.blocks.{layer}", True) for layer in range(LAYERS))]
    for block, crosses in blocks:
        for part in ("attn", "cross_attn") if crosses else ("attn",):
            made += [
                (f"{block}.{part}_ln.weight", np.ones(WIDTH, np.float32)),
                (f"{block}.{part}_ln.bias", zeros(WIDTH)),
            ]
            for name in ("query", "key", "value", "out"):
                made.append((f"{block}.{part}.{name}.weight", zeros(WIDTH, WIDTH)))
                if name != "key":
                    made.append((f"{block}.{part}.{name}.bias", zeros(WIDTH)))
        made += [(f"{block}.mlp_ln.weight", np.ones(WIDTH, np.float32)), (f"{block}.mlp_ln.bias", zeros(WIDTH))]
        made += [(f"{block}.mlp.0.weight", zeros(4 * WIDTH, WIDTH)), (f"{block}.mlp.0.bias", zeros(4 * WIDTH))]
        made += [(f"{block}.mlp.2.weight", zeros(WIDTH, 4 * WIDTH)), (f"{block}.mlp.2.bias", zeros(WIDTH))]
    return made
