"""The vision kernels compiled for GPUs: by whichever compiler is there, once."""

import ctypes
import re

import pytest

from llama_pajamas_run_core.errors import MissingDependency
from llama_pajamas_run_tensorrt import kernels

ELF = b"\x7fELF of "


@pytest.fixture
def compilers(monkeypatch):
    """Two compilers that note what they were asked for; the first is broken where a test says so."""
    asked = []

    def compiler(name):
        def compile_(source, capability):
            asked.append((name, capability))
            assert "fit_f16" in source
            if name == "broken":
                raise RuntimeError("no such architecture")
            return ELF + name.encode()

        return name, compile_

    def install(*names):
        monkeypatch.setattr(kernels, "_compilers", lambda: iter([compiler(name) for name in names]))
        return asked

    return install


def test_what_was_compiled_is_kept(compilers):
    asked = compilers("one", "two")
    assert next(kernels.compiled((9, 0))) == ELF + b"one"
    assert next(kernels.compiled((9, 0))) == ELF + b"one"
    assert asked == [("one", (9, 0))]
    assert next(kernels.compiled((7, 5))) == ELF + b"one"
    assert asked == [("one", (9, 0)), ("one", (7, 5))]


def test_the_next_compiler_is_asked_where_one_fails_or_its_work_is_not_taken(compilers):
    asked = compilers("broken", "two", "three")
    made = kernels.compiled((9, 0))
    assert next(made) == ELF + b"two"
    assert next(made) == ELF + b"three"
    with pytest.raises(MissingDependency, match="broken: no such architecture"):
        next(made)
    assert [name for name, _ in asked] == ["broken", "two", "three"]


def test_without_a_compiler_the_error_says_what_to_install(compilers):
    compilers()
    with pytest.raises(MissingDependency, match="neither NVRTC nor nvcc.*nvidia-cuda-nvrtc"):
        next(kernels.compiled((9, 0)))


def test_nvrtc_is_asked_as_it_wants_to_be():
    class Library:
        """libnvrtc's calls."""

        def nvrtcCreateProgram(self, program, source, name, count, headers, names):
            assert b"suppress_boxes" in source
            program._obj.value = 7
            return 0

        def nvrtcCompileProgram(self, program, count, flags):
            assert program.value == 7
            self.flags = list(flags)
            return 0 if b"--gpu-architecture=sm_90" in self.flags else 6

        def nvrtcGetCUBINSize(self, program, size):
            size._obj.value = 9
            return 0

        def nvrtcGetCUBIN(self, program, binary):
            ctypes.memmove(binary, b"\x7fELF12345", 9)
            return 0

        def nvrtcGetProgramLogSize(self, program, size):
            size._obj.value = 12
            return 0

        def nvrtcGetProgramLog(self, program, text):
            ctypes.memmove(text, b"unknown chip", 12)
            return 0

        def nvrtcDestroyProgram(self, program):
            self.destroyed = program._obj.value
            return 0

        class nvrtcGetErrorString:
            restype = None

            def __new__(cls, code):
                return b"NVRTC_ERROR_%d" % code

    library = Library()
    assert kernels._by_nvrtc(library, kernels.SOURCE.read_text(), (9, 0)) == b"\x7fELF12345"
    assert (library.destroyed, b"--fmad=false" in library.flags) == (7, True)
    with pytest.raises(RuntimeError, match="NVRTC_ERROR_6: unknown chip"):
        kernels._by_nvrtc(library, kernels.SOURCE.read_text(), (1, 0))


def test_numbers_in_python_are_those_of_the_source():
    source = kernels.SOURCE.read_text("utf-8")
    defined = dict(re.findall(r"#define (\w+) ([\d.e+f]+)", source))
    assert (int(defined["MOST_FOUND"]), int(defined["MOST_KEPT"])) == (kernels.MOST_FOUND, kernels.MOST_KEPT)
    assert (int(defined["TILE_X"]), int(defined["TILE_Y"])) == kernels.TILE
    assert int(defined["CHUNK"]) == kernels.SUPPRESS_THREADS
    assert kernels.BOX.itemsize == 32


@pytest.mark.skipif(kernels._find_nvcc() is None, reason="there is no nvcc")
def test_nvcc_compiles_the_source():
    binary = kernels._by_nvcc(kernels._find_nvcc(), kernels.SOURCE.read_text("utf-8"), (9, 0))
    assert binary.startswith(b"\x7fELF")
    for name in (
        b"fit_f32",
        b"fit_f16",
        b"collect_f32",
        b"collect_f16",
        b"suppress_boxes",
        b"gather_f32",
        b"gather_f16",
    ):
        assert name in binary
    with pytest.raises(RuntimeError):
        kernels._by_nvcc(kernels._find_nvcc(), "this is no CUDA", (9, 0))
