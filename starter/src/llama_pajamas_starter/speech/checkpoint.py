"""The canonical checkpoint of the starter speech model, stored compactly and expanded to Whisper's own tensors.

Stored under openai-whisper's tensor names, matrices as 8-bit integers with a float16 scale for every row
(``<name>.scale``), all else as float16; and what is redundant is left out:

- The token embedding has 51864 rows, most of them for words the model does not know. Stored are the rows in use
  (``tokens.rows``, for the ids ``tokens.ids``) and one that all others share (``tokens.unused``).
- A capitalised token (" What") has the row of its lower-case twin (" what") plus one vector (``tokens.capital``).
- The 1501 timestamp rows are a linear map (``tokens.timestamps``) of sines and cosines of the time.
- The encoder's positional embedding is Whisper's fixed sinusoids.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_starter.speech import tokens

Tensors = dict[str, npt.NDArray[np.float32]]

#: Pairs of sine and cosine that a timestamp's row is made of.
TIMESTAMP_WAVES: Final = 40
#: How large the starter model is.
SIZES: Final = Dimensions(
    n_mels=80,
    n_audio_ctx=1500,
    n_audio_state=160,
    n_audio_head=5,
    n_audio_layer=4,
    n_vocab=tokens.VOCABULARY_SIZE,
    n_text_ctx=448,
    n_text_state=160,
    n_text_head=5,
    n_text_layer=3,
)
#: The starter model's folder within the package.
FOLDER: Final = Path(__file__).parent.parent / "models" / "speech"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole model.

    Attributes:
        dimensions: the sizes.
        tensors: float32 arrays under openai-whisper's names, expanded: what ``Whisper.load_state_dict`` takes.
        alignment_heads: (decoder layer, head) pairs whose cross-attention tells when a word is spoken.
    """

    dimensions: Dimensions
    tensors: Tensors
    alignment_heads: tuple[tuple[int, int], ...]

    @classmethod
    def load(cls, folder: str | Path = FOLDER) -> "Checkpoint":
        """Reads ``model.safetensors`` and ``config.json`` of a folder and expands what is stored compactly.

        Raises:
            LoadError: a file is missing or is not what it should be.
        """
        from safetensors import SafetensorError

        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            stored = read(folder / "model.safetensors")
            dimensions = Dimensions.of(config)
            heads = tuple((int(layer), int(head)) for layer, head in config["alignment_heads"])
            return cls(dimensions, expand(dimensions, stored), heads)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise LoadError(f"{folder} holds no speech checkpoint: {error!r}.") from error


def read(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """Reads the compact tensors of a file, those in 8 bits as float32.

    Raises:
        OSError: the file cannot be read.
        safetensors.SafetensorError: it is no safetensors file.
    """
    from safetensors.numpy import load_file

    stored = load_file(path)
    scales = {name.removesuffix(".scale"): stored.pop(name) for name in list(stored) if name.endswith(".scale")}
    return {
        name: value.astype(np.float32) * scales[name].astype(np.float32) if name in scales else value
        for name, value in stored.items()
    }


def save(
    folder: str | Path, dimensions: Dimensions, stored: dict[str, npt.NDArray[Any]], *, eight_bits: bool = True
) -> None:
    """Writes compact tensors as a checkpoint folder that :meth:`Checkpoint.load` reads.

    Args:
        folder: made where it does not exist.
        dimensions: the sizes.
        stored: what :func:`expand` takes.
        eight_bits: matrices as integers with a scale for every row, not as float16: half the size, the same words.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, npt.NDArray[Any]] = {}
    for name, value in sorted(stored.items()):
        if np.issubdtype(value.dtype, np.integer):
            written[name] = value
        elif value.ndim == 2 and eight_bits:
            scale = np.maximum(np.abs(value).max(1, keepdims=True) / 127, 1e-6).astype(np.float16)
            written[name] = np.clip(np.rint(value / scale.astype(np.float32)), -127, 127).astype(np.int8)
            written[name + ".scale"] = scale
        else:
            written[name] = value.astype(np.float16)
    contiguous = {name: np.ascontiguousarray(value) for name, value in written.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "np"})
    layer = dimensions.n_text_layer - 1
    config = {
        "model_type": "whisper",
        "dimensions": asdict(dimensions),
        "alignment_heads": [[layer, head] for head in range(dimensions.n_text_head)],
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def sinusoids(length: int, channels: int) -> npt.NDArray[np.float32]:
    """Whisper's positional embedding of the encoder: ``(length, channels)``, sines in the first half."""
    increment = np.log(10_000) / (channels // 2 - 1)
    scaled = np.arange(length)[:, None] * np.exp(-increment * np.arange(channels // 2))[None]
    return np.concatenate([np.sin(scaled), np.cos(scaled)], axis=1).astype(np.float32)


def timestamp_waves() -> npt.NDArray[np.float32]:
    """What the timestamp rows are a linear map of: ``(1501, 2 * TIMESTAMP_WAVES)``, 0.25 to 250 cycles in 30 s."""
    cycles = 0.25 * 1000 ** (np.arange(TIMESTAMP_WAVES) / (TIMESTAMP_WAVES - 1))
    phase = 2 * np.pi * np.linspace(0, 1, tokens.TIMESTAMPS)[:, None] * cycles[None]
    return np.concatenate([np.sin(phase), np.cos(phase)], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Which tokens a model knows, and which stored row and capital vector each has.

    Attributes:
        ids: int32, sorted token ids (no timestamps).
        row_of: int16, for each id the index of its row.
        is_capital: uint8, whether the capital vector is added to it.
    """

    ids: npt.NDArray[np.int32]
    row_of: npt.NDArray[np.int16]
    is_capital: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, used: set[int]) -> "TokenTable":
        """The table for a set of text tokens; the special tokens of a transcript are added."""
        specials = {tokens.END_OF_TEXT, tokens.START_OF_TRANSCRIPT, tokens.START_OF_PREVIOUS, tokens.NO_SPEECH}
        ids = sorted(used | specials | {tokens.NO_TIMESTAMPS})
        known = tokens.text_tokens()
        by_bytes = {known[token]: token for token in ids if token < tokens.END_OF_TEXT}
        twin: dict[int, int] = {}
        for piece, token in by_bytes.items():
            lower = by_bytes.get(piece.lower())
            if piece[:1] == b" " and piece[1:2].isupper() and piece[2:].islower() and lower is not None:
                twin[token] = lower
        rows = {token: row for row, token in enumerate(token for token in ids if token not in twin)}
        return cls(
            np.array(ids, np.int32),
            np.array([rows[twin.get(token, token)] for token in ids], np.int16),
            np.array([token in twin for token in ids], np.uint8),
        )

    @property
    def rows(self) -> int:
        """How many rows are stored."""
        return int(self.row_of.max()) + 1


def expand(dimensions: Dimensions, stored: dict[str, npt.NDArray[Any]]) -> Tensors:
    """Compact tensors to openai-whisper's, in float32.

    Raises:
        KeyError: a tensor is missing.
    """
    tensors = {k: v.astype(np.float32) for k, v in stored.items() if not k.startswith("tokens.")}
    ids = stored["tokens.ids"].astype(np.int64)
    embedding = np.tile(stored["tokens.unused"].astype(np.float32), (dimensions.n_vocab, 1))
    embedding[ids] = stored["tokens.rows"].astype(np.float32)[stored["tokens.row_of"].astype(np.int64)]
    embedding[ids] += stored["tokens.is_capital"][:, None] * stored["tokens.capital"].astype(np.float32)
    first = tokens.FIRST_TIMESTAMP
    embedding[first : first + tokens.TIMESTAMPS] = timestamp_waves() @ stored["tokens.timestamps"].astype(np.float32)
    tensors["decoder.token_embedding.weight"] = embedding
    tensors["encoder.positional_embedding"] = sinusoids(dimensions.n_audio_ctx, dimensions.n_audio_state)
    return tensors
