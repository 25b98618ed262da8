"""What a Whisper model's engines are measured on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llama_pajamas_run_core.dsp.mel import RATE, log_mel
from llama_pajamas_run_core.whisper.cache import Places
from llama_pajamas_run_core.whisper.sizes import Dimensions
from llama_pajamas_run_core.whisper.vocabulary import Vocabulary
from llama_pajamas_run_tensorrt.export.options import BuildOptions
from llama_pajamas_run_tensorrt.export.reference import Reference

#: Tokens that the decoders are compared on.
_TOKENS: Final = 24


def whisper_feeds(graph: Path, sizes: Dimensions, options: BuildOptions) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """What the graph and its engine are compared on: sound that changes, and tokens behind the start of a transcript.

    Args:
        graph: encoder.onnx or decoder.onnx, which lie side by side.
        sizes: the model's dimensions.
        options: what the engine was built with.
    """
    rows = options.batch[1] if options.batch else 1
    mel = np.stack([_sound(sizes, options.dims["frames"][1], seed) for seed in range(rows)])
    if graph.stem == "encoder":
        yield {"mel": mel}
        return
    audio: Mapping[str, Any] = Reference(graph.with_name("encoder.onnx")).run({"mel": mel})
    room = options.dims["room"][1]
    count = min(_TOKENS, options.dims["n"][2], room)
    places = Places.of(0, count, room)
    vocabulary = Vocabulary.of(sizes.n_vocab)
    words = np.random.default_rng(0).integers(0, vocabulary.end, (rows, count), np.int32)
    words[:, 0] = vocabulary.start
    heads = sizes.n_text_head
    width = sizes.n_text_state // heads
    cache = {
        f"{part}_{layer}": np.zeros((rows, heads, *shape), np.float32)
        for layer in range(sizes.n_text_layer)
        for part, shape in (("key", (width, room)), ("value", (room, width)))
    }
    yield {
        "tokens": words, "positions": places.positions, "write": places.write, "mask": places.mask, **audio, **cache,
    }  # fmt: skip


def _sound(sizes: Dimensions, frames: int, seed: int) -> npt.NDArray[np.float32]:
    """The spectrogram of noise whose level and colour change."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames * RATE // 100) / RATE
    loudness = np.maximum(0.0, np.sin(2 * np.pi * (1 + seed % 4) * time)) ** 2
    tone = np.sin(2 * np.pi * (200 + 150 * np.sin(time)) * time)
    samples = (0.2 * loudness * (rng.standard_normal(len(time)) + tone)).astype(np.float32)
    return log_mel(samples, sizes.n_mels, len(samples))
