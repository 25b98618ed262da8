"""Small model files made from nothing, for tests of what reads their headers."""

import io
import json
import struct
import zipfile
from pathlib import Path

import gguf
import numpy as np


def write_gguf(path: Path, *, architecture: str = "llama", rows: int = 8, **extra: int | str) -> Path:
    """A GGUF file with a few keys and two tensors; it is no model that runs."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_token_list([f"token{index}" for index in range(20)])
    writer.add_token_scores([0.5] * 20)
    for key, value in extra.items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint16
        add(key.replace("_", "."), value)
    writer.add_tensor("token_embd.weight", np.arange(rows * 32, dtype=np.float32).reshape(rows, 32))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def whisper_tensors(audio_layers: int, text_layers: int) -> list[str]:
    """The names of a Whisper model's tensors."""
    attention = ["query.weight", "query.bias", "key.weight", "value.weight", "value.bias", "out.weight", "out.bias"]
    rest = ["mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias", "mlp_ln.weight", "mlp_ln.bias"]

    def layer(where: str, kinds: tuple[str, ...]) -> list[str]:
        names = [f"{where}.{kind}.{name}" for kind in kinds for name in attention]
        names += [f"{where}.{kind}_ln.{part}" for kind in kinds for part in ("weight", "bias")]
        return names + [f"{where}.{name}" for name in rest]

    names = ["encoder.positional_embedding", "decoder.positional_embedding", "decoder.token_embedding.weight"]
    for stem in ("encoder.conv1", "encoder.conv2", "encoder.ln_post", "decoder.ln"):
        names += [f"{stem}.weight", f"{stem}.bias"]
    for index in range(audio_layers):
        names += layer(f"encoder.blocks.{index}", ("attn",))
    for index in range(text_layers):
        names += layer(f"decoder.blocks.{index}", ("attn", "cross_attn"))
    return names


def write_ggml_whisper(path: Path, *, n_vocab: int = 51_864, heads: int = 2, drop: int = 0) -> Path:
    """A file in whisper.cpp's format with tensors of four values; it is no model that runs.

    Args:
        path: the file.
        n_vocab: rows of the vocabulary.
        heads: attention heads.
        drop: how many of the last tensors to leave out.
    """
    out = io.BytesIO()
    out.write(struct.pack("<12i", 0x67676D6C, n_vocab, 1500, 64, heads, 1, 448, 64, heads, 2, 80, 1))
    out.write(struct.pack("<2i", 80, 201) + bytes(80 * 201 * 4))
    out.write(struct.pack("<i", 3))
    for token in (b"!", b"a", b" the"):
        out.write(struct.pack("<i", len(token)) + token)
    names = whisper_tensors(1, 2)
    for name in names[: len(names) - drop]:
        encoded = name.encode()
        out.write(struct.pack("<3i", 1, len(encoded), 0) + struct.pack("<i", 4) + encoded + bytes(16))
    path.write_bytes(out.getvalue())
    return path


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def onnx_bytes(*, external: tuple[str, int, int] | None = None, metadata: dict[str, str] | None = None) -> bytes:
    """The envelope of an ONNX model with one initializer.

    Args:
        external: (file, offset, length) of the initializer's values outside; they are inside if None.
        metadata: the model's metadata_props.
    """

    def pair(key: str, value: str) -> bytes:
        return _field(1, key.encode()) + _field(2, value.encode())

    tensor = _field(1, 4) + _field(2, 1) + _field(8, b"weight")
    if external is None:
        tensor += _field(9, bytes(16))
    else:
        name, offset, length = external
        for key, value in (("location", name), ("offset", str(offset)), ("length", str(length))):
            tensor += _field(13, pair(key, value))
        tensor += _field(14, 1)
    graph = _field(1, b"") + _field(2, b"graph") + _field(5, tensor)
    model = _field(1, 8) + _field(2, b"tests") + _field(7, graph) + _field(8, _field(2, 17))
    for key, value in (metadata or {}).items():
        model += _field(14, pair(key, value))
    return model


def safetensors_bytes(*, metadata: dict[str, str] | None = None, count: int = 8) -> bytes:
    """A safetensors file with one float32 tensor."""
    header: dict[str, object] = {"weight": {"dtype": "F32", "shape": [count], "data_offsets": [0, count * 4]}}
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(count * 4)


def npz_bytes() -> bytes:
    """A zip of arrays, as Kokoro's voices are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        array = io.BytesIO()
        np.save(array, np.zeros((2, 1, 4), np.float32))
        archive.writestr("af.npy", array.getvalue())
    return out.getvalue()
