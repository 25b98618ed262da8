"""The vision kernels compiled for this machine's processor: the very source that runs on a GPU, run by the tests.

CUDA's names come from ``cuda_on_a_processor.h``. A thread of a block is a coroutine, so that barriers and shared memory
are as they are on a GPU; blocks run one after another.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import llama_pajamas_run_tensorrt

SOURCE = Path(llama_pajamas_run_tensorrt.__file__).parent / "kernels" / "vision.cu"
SHIM = Path(__file__).with_name("cuda_on_a_processor.h")
_TYPES = {"int": ctypes.c_int, "float": ctypes.c_float}


class ProcessorKernels:
    """The kernels by name: ``kernels.launch("fit_f32", (1, 1, 1), (32, 8, 1), address, 5, 0.5)``."""

    def __init__(self, library: ctypes.CDLL, parameters: dict[str, list[type]]) -> None:
        self._library, self.parameters = library, parameters
        self._one = threading.Lock()  # blocks, threads and shared memory are the library's globals

    def launch(self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], *values: Any) -> None:
        """Run a kernel to its end; pointers are addresses in this process."""
        kinds = self.parameters[name]
        assert len(kinds) == len(values), f"{name} takes {len(kinds)} values, not {len(values)}"
        sizes = [ctypes.c_uint(size) for size in (*grid, *block)]
        given = [kind(value) for kind, value in zip(kinds, values, strict=True)]
        with self._one:
            getattr(self._library, f"run_{name}")(*sizes, *given)


def install_kernels(stand_in: Any, monkeypatch: Any) -> ProcessorKernels:
    """Let the stand-in of PyCUDA load these kernels, in place of what a CUDA compiler makes."""
    from llama_pajamas_run_tensorrt import _kernels

    kernels = processor_kernels()
    letters = {ctypes.c_void_p: "P", ctypes.c_int: "i", ctypes.c_float: "f"}

    class Function:
        def __init__(self, name: str) -> None:
            self._name = name

        def prepare(self, types: str) -> None:
            assert types == "".join(letters[kind] for kind in kernels.parameters[self._name])

        def prepared_async_call(self, grid: Any, block: Any, stream: Any, *values: Any) -> None:
            assert all(size >= 1 for size in (*grid, *block))
            assert block[0] * block[1] * block[2] <= 1024
            stream.put(lambda: kernels.launch(self._name, grid, block, *values))

    monkeypatch.setattr(_kernels, "compiled", lambda capability: iter([b"the processor's own"]))
    stand_in.cuda.module_from_buffer = lambda binary: SimpleNamespace(get_function=Function)
    return kernels


@cache
def processor_kernels() -> ProcessorKernels:
    """Compile the kernels, or take what was compiled before. Skips the test where there is no C++ compiler."""
    compiler = next((found for name in ("g++", "clang++") if (found := shutil.which(name))), None)
    if compiler is None or os.name == "nt":
        pytest.skip("needs a C++ compiler for the kernels")
    source = SOURCE.read_text("utf-8")
    macros = dict(re.findall(r"#define (\w+_ARGUMENTS)\(Element\)((?:.*\\\n)*.*)", source))
    parameters: dict[str, list[type]] = {}
    wrappers = []
    for name, listed in re.findall(r"(?s)__global__ void (\w+)\((.*?)\) \{", source):
        if called := re.fullmatch(r"(\w+_ARGUMENTS)\(([\w ]+)\)", listed):
            listed = re.sub(r"\bElement\b", called[2], macros[called[1]].replace("\\", ""))
        listed = " ".join(listed.split())
        declared = _declared(listed)
        parameters[name] = [ctypes.c_void_p if "*" in kind else _TYPES[kind] for kind, _ in declared]
        typed = ", ".join(f"{kind} {value}" for kind, value in declared)
        values = ", ".join(value for _, value in declared)
        wrappers.append(
            f'extern "C" void run_{name}(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, '
            f"{typed}) {{ block::run({{gx, gy, gz}}, {{bx, by, bz}}, [=] {{ {name}({values}); }}); }}"
        )
    text = f'#include "{SHIM}"\n{source}\n' + "\n".join(wrappers)
    digest = hashlib.sha256((text + SHIM.read_text("utf-8")).encode()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"llama-pajamas-tests-{os.getuid()}" / f"vision-{digest}.so"
    if not built.is_file():
        built.parent.mkdir(mode=0o700, exist_ok=True)
        program = built.with_suffix(f".{os.getpid()}.cpp")
        program.write_text(text, "utf-8")
        partial = built.with_suffix(f".{os.getpid()}.part")
        flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-w"]
        done = subprocess.run([compiler, *flags, str(program), "-o", str(partial)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        partial.replace(built)
        program.unlink()
    return ProcessorKernels(ctypes.CDLL(str(built)), parameters)


def _declared(listed: str) -> list[tuple[str, str]]:
    """Types and names of "const Box* found, float a" and of "const T *a, float b"."""
    found = []
    for one in listed.split(","):
        kind, name = re.fullmatch(r"\s*(.*?[\s*])(\w+)\s*", one).groups()
        found.append((kind.strip(), name))
    return found
