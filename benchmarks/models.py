"""Language models of random weights and real shapes, for measuring speed where no trained weights are at hand.

    python benchmarks/models.py qwen3-150m --quantization q8_0
    python benchmarks/models.py llama-8b --quantization q4_k_m

Prints the path of the GGUF file, which is made once and kept in the user's cache folder. What a model computes does not
depend on the values of its weights, so its speed is that of a trained model of the same shape; its answers are noise.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.tiny_gguf import CHAT_TEMPLATE, add_tokenizer

from llama_pajamas_run_core.artifacts.places import cache_dir

#: Changed with whatever changes the files, so that old ones are not taken for new ones.
RECIPE = 2
#: Normal numbers that all rows are cut from.
_POOL = 2**22
#: The last tokens of the vocabulary are markers (the end of a turn among them) and tags.
_MARKERS = 8
#: The first 256 tokens are bytes, the printable ASCII ones first; the others are no text by themselves.
_ASCII_BYTES, _BYTES = 94, 256

QUANTIZATIONS = ("f16", "q8_0", "q4_k_m")


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a decoder.

    Attributes:
        architecture: llama.cpp's name of it, "llama" or "qwen3".
        width: of the residual stream.
        layers: how many blocks.
        feed_forward: width of the feed-forward layers.
        heads: attention heads.
        kv_heads: heads of keys and values.
        head: width of a head.
        vocabulary: tokens.
        context: the context it claims to be trained for.
        rope_base: base frequency of the rotary positions.
    """

    architecture: str
    width: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int
    rope_base: float = 1e6


SHAPES = {
    "tiny": Shape("qwen3", 64, 2, 128, 4, 2, 16, 600, 8192),
    "qwen3-150m": Shape("qwen3", 768, 16, 2048, 12, 4, 64, 32000, 16384),
    "qwen3-0.6b": Shape("qwen3", 1024, 28, 3072, 16, 8, 128, 151936, 40960),
    "llama-8b": Shape("llama", 4096, 32, 14336, 32, 8, 128, 128256, 131072, 5e5),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight: its name, its shape as numpy has it, and whether it is a norm's."""

    name: str
    shape: tuple[int, ...]
    norm: bool = False


def tensors(shape: Shape) -> Iterator[Tensor]:
    """All weights of a model, in the order of the file."""
    queries, keys, width = shape.heads * shape.head, shape.kv_heads * shape.head, shape.width
    yield Tensor("token_embd.weight", (shape.vocabulary, width))
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield Tensor(block + "attn_norm.weight", (width,), norm=True)
        yield Tensor(block + "attn_q.weight", (queries, width))
        yield Tensor(block + "attn_k.weight", (keys, width))
        yield Tensor(block + "attn_v.weight", (keys, width))
        if shape.architecture == "qwen3":
            yield Tensor(block + "attn_q_norm.weight", (shape.head,), norm=True)
            yield Tensor(block + "attn_k_norm.weight", (shape.head,), norm=True)
        yield Tensor(block + "attn_output.weight", (width, queries))
        yield Tensor(block + "ffn_norm.weight", (width,), norm=True)
        yield Tensor(block + "ffn_gate.weight", (shape.feed_forward, width))
        yield Tensor(block + "ffn_up.weight", (shape.feed_forward, width))
        yield Tensor(block + "ffn_down.weight", (width, shape.feed_forward))
    yield Tensor("output_norm.weight", (width,), norm=True)
    yield Tensor("output.weight", (shape.vocabulary, width))


def parameters(shape: Shape) -> int:
    """How many weights a model has."""
    return sum(int(np.prod(tensor.shape)) for tensor in tensors(shape))


def model_path(name: str, quantization: str = "f16", *, folder: Path | None = None) -> Path:
    """A model's file, made if it is not there yet.

    Args:
        name: one of :data:`SHAPES`.
        quantization: one of :data:`QUANTIZATIONS`.
        folder: where files are kept; the user's cache folder if None.

    Raises:
        ValueError: there is no such shape or quantization.
        RuntimeError: llama.cpp could not quantize it.
    """
    if name not in SHAPES or quantization not in QUANTIZATIONS:
        raise ValueError(
            f"There is no {name} in {quantization}; shapes: {', '.join(SHAPES)}; {', '.join(QUANTIZATIONS)}"
        )
    folder = cache_dir() / "benchmarks" if folder is None else folder
    path = folder / f"{name}-r{RECIPE}-{quantization}.gguf"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        if quantization == "f16":
            write(part, name, SHAPES[name])
        else:
            quantize(model_path(name, "f16", folder=folder), part, quantization)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write(path: Path, name: str, shape: Shape, *, seed: int = 0) -> None:
    """Write a model in F16, one weight after the other, so that it need not fit into memory.

    Args:
        path: the file.
        name: what the model is called.
        shape: of the model.
        seed: of the weights.
    """
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_name(f"{name}-random")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(shape.vocabulary)
    add_tokenizer(writer, shape.vocabulary, CHAT_TEMPLATE)
    for tensor in tensors(shape):
        kind, size = (np.dtype(np.float32), 4) if tensor.norm else (np.dtype(np.float16), 2)
        writer.add_tensor_info(tensor.name, list(tensor.shape), kind, int(np.prod(tensor.shape)) * size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    noise = _Noise(seed)
    for tensor in tensors(shape):
        writer.write_tensor_data(np.ones(tensor.shape, np.float32) if tensor.norm else noise.draw(tensor))
    writer.close()


class _Noise:
    """Normal numbers, drawn once and read from another place for each row: a real draw of 8 billion takes minutes."""

    def __init__(self, seed: int) -> None:
        self._places = np.random.default_rng(seed)
        self._pool = self._places.standard_normal(_POOL, dtype=np.float32).astype(np.float16)

    def draw(self, tensor: Tensor) -> npt.NDArray[np.float16]:
        """The values of a weight."""
        rows, columns = tensor.shape
        values = np.empty(tensor.shape, np.float16)
        # A numpy float64 here would turn the whole block into float64.
        pool = self._pool * np.float16(0.7 / columns**0.5)
        for row, start in enumerate(self._places.integers(0, _POOL - columns, rows)):
            values[row] = pool[start : start + columns]
        if tensor.name == "output.weight":
            # Markers and halves of characters are as rare as in a trained model's answers, so that no answer ends
            # early and every token is a piece of text that a stream shows at once.
            values[-_MARKERS:] = 0
            values[_ASCII_BYTES:_BYTES] = 0
        return values


def quantize(source: Path, target: Path, quantization: str) -> None:
    """Quantize a model by llama.cpp.

    Args:
        source: an F16 model.
        target: the file to write.
        quantization: "q8_0" or "q4_k_m".

    Raises:
        RuntimeError: llama.cpp could not do it.
    """
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}[
        quantization
    ]
    params.nthread = os.cpu_count() or 1
    log = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(log, None)
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params)
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(0), None)
    if code:
        raise RuntimeError(f"llama_model_quantize failed with {code}")


def main() -> None:
    """Make a model and print its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="q8_0")
    parser.add_argument("--folder", type=Path, help="where to keep it; the user's cache folder by default")
    given = parser.parse_args()
    start = time.perf_counter()
    path = model_path(given.shape, given.quantization, folder=given.folder)
    count, size = parameters(SHAPES[given.shape]) / 1e6, path.stat().st_size / 2**20
    print(f"{count:.1f} M parameters, {size:.1f} MiB, {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(path)


if __name__ == "__main__":
    main()
