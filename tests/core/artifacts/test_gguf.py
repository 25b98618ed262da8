"""GGUF headers: whole files pass, cut or forged ones are told apart before native code sees them."""

import contextlib
import random
import shutil

import gguf
import pytest
from support.model_files import write_gguf

from llama_pajamas_run_core.artifacts.formats import check_gguf, identify, size_of
from llama_pajamas_run_core.artifacts.gguf import BLOCKS
from llama_pajamas_run_core.errors import BadInput, LoadError


@pytest.fixture
def model(tmp_path):
    return write_gguf(tmp_path / "model.gguf")


def test_a_whole_file(model):
    header = check_gguf(model)
    assert (header.version, header.architecture, header.tensors) == (3, "llama", 2)
    assert header.metadata["llama.context_length"] == 64
    assert header.metadata["tokenizer.ggml.tokens.length"] == 20
    assert header.parts == (model,)
    assert identify(model).name == "gguf"
    assert size_of(model) == model.stat().st_size


def test_block_sizes_are_ggmls():
    for kind, sizes in gguf.GGML_QUANT_SIZES.items():
        if int(kind) in BLOCKS:
            assert BLOCKS[int(kind)] == sizes, kind
    assert {int(kind) for kind in gguf.GGML_QUANT_SIZES} - set(BLOCKS) <= {40, 41, 42}  # newer than what is listed


def test_every_quantization_that_is_written_is_measured_right(tmp_path):
    import numpy as np

    kinds = (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.BF16)
    for kind in kinds:
        path = tmp_path / f"{kind.name}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tensor("t", gguf.quants.quantize(np.ones((4, 64), np.float32), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        check_gguf(path)
        data = path.read_bytes()
        values, size = BLOCKS[int(kind)]
        # The file is padded to its alignment; one byte less than the values themselves is too little.
        cut = data[: len(data) - (-(4 * 64 // values * size) % 32) - 1]
        path.write_bytes(cut)
        with pytest.raises(LoadError, match=f"ends at {len(cut):,} bytes"):
            check_gguf(path)


def test_cut_in_half(model):
    size = model.stat().st_size
    data = model.read_bytes()
    model.write_bytes(data[: size // 2])
    with pytest.raises(LoadError) as raised:
        check_gguf(model)
    assert str(model) in str(raised.value)
    assert f"it ends at {size // 2:,} bytes, with its tensors it needs" in str(raised.value)
    assert raised.value.hint.startswith("It may have been cut short")


def test_cut_anywhere(model):
    data = model.read_bytes()
    needed = len(data) - 64 % 32  # 64 bytes of the last tensor are a multiple of the alignment
    for length in range(0, needed, 7):
        model.write_bytes(data[:length])
        with pytest.raises((LoadError, BadInput)):
            check_gguf(model)


def test_noise_never_gives_anything_but_our_errors(model):
    data = model.read_bytes()
    chance = random.Random(7)
    for _ in range(400):
        forged = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            forged[chance.randrange(min(len(forged), 900))] = chance.randrange(256)
        model.write_bytes(forged)
        with contextlib.suppress(LoadError, BadInput):
            check_gguf(model)


@pytest.mark.parametrize(
    ("offset", "value", "problem"),
    [
        (4, b"\x00\x00\x00\x03", "big-endian"),
        (4, b"\x09\x00\x00\x00", "version is 9"),
        (8, b"\xff" * 8, "it claims 18,446,744,073,709,551,615 tensors"),
        (16, b"\xff\xff\xff\xff\x00\x00\x00\x00", "4,294,967,295 keys"),
        (24, b"\xff\xff\xff\xff\x00\x00\x00\x00", "key 1 of"),
    ],
)
def test_forged_headers(model, offset, value, problem):
    data = bytearray(model.read_bytes())
    data[offset : offset + len(value)] = value
    model.write_bytes(data)
    with pytest.raises(LoadError, match=problem):
        check_gguf(model)


def test_other_files(tmp_path):
    text = tmp_path / "text.gguf"
    text.write_text("not a model")
    with pytest.raises(BadInput, match="is no GGUF file: it begins with b'not '"):
        check_gguf(text)
    with pytest.raises(BadInput, match="There is no file"):
        check_gguf(tmp_path / "absent.gguf")
    with pytest.raises(BadInput, match="cannot be read"):
        check_gguf(tmp_path)
    empty = tmp_path / "empty.gguf"
    empty.touch()
    with pytest.raises(LoadError, match="is empty"):
        check_gguf(empty)


def test_a_projector_is_no_language_model(tmp_path):
    found = identify(write_gguf(tmp_path / "mmproj.gguf", architecture="clip"))
    assert (found.name, found.task) == ("mmproj", None)


def test_split_models(tmp_path):
    first = tmp_path / "m-00001-of-00002.gguf"
    second = tmp_path / "m-00002-of-00002.gguf"
    write_gguf(first, split_no=0, split_count=2)
    with pytest.raises(LoadError, match=r"missing beside it: m-00002-of-00002\.gguf"):
        check_gguf(first)
    write_gguf(second, split_no=1, split_count=2)
    assert check_gguf(first).parts == (first, second)
    assert size_of(first) == first.stat().st_size + second.stat().st_size
    with pytest.raises(BadInput, match=r"part 2 of 2.*Load the first"):
        check_gguf(second)
    renamed = tmp_path / "renamed.gguf"
    shutil.copy(first, renamed)
    with pytest.raises(LoadError, match="its name does not say so"):
        check_gguf(renamed)
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(LoadError, match="m-00002-of-00002"):
        check_gguf(first)
    write_gguf(first, split_no="first", split_count=2)
    with pytest.raises(LoadError, match="its split.no is 'first'"):
        check_gguf(first)
