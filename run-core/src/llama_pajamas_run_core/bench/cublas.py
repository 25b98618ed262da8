"""NVIDIA's cuBLAS through ctypes: found where toolkits and packages put it, and told from empty stand-ins."""

import ctypes
import os
import site
import sys
from collections.abc import Iterable, Iterator
from ctypes import byref, c_float, c_int, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.errors import InferenceError, MissingDependency

INSTALL: Final = "uv pip install nvidia-cublas (or install NVIDIA's CUDA toolkit)"
_MAJORS: Final = (13, 12, 11)
_HALF: Final = 2  # CUDA_R_16F
_COMPUTE_FLOAT: Final = 68  # CUBLAS_COMPUTE_32F
_DEFAULT_ALGORITHM: Final = -1


@dataclass(frozen=True, slots=True)
class Library:
    """cuBLAS.

    Attributes:
        path: where it was found.
        version: its version, (13, 0, 0).
        functions: the library itself.
    """

    path: str
    version: tuple[int, int, int]
    functions: Any

    @property
    def shown(self) -> str:
        """The version for people."""
        return ".".join(map(str, self.version))


def find(newest: int, places: Iterable[str] | None = None) -> Library:
    """The newest real cuBLAS that the driver serves.

    Args:
        newest: the major version of CUDA that the driver serves.
        places: paths and names to try in this order; those where it usually lies if None.

    Raises:
        MissingDependency: there is none.
    """
    for place in candidates(newest) if places is None else places:
        functions = _load(place)
        version = None if functions is None else _version(functions)
        if version is not None and version[0] <= newest:
            return Library(place, version, functions)
    raise MissingDependency("A matrix product on the GPU", package="cuBLAS", install=INSTALL)


def candidates(newest: int, roots: Iterable[Path] | None = None) -> Iterator[str]:
    """Where cuBLAS may lie, the newest version first: toolkits, NVIDIA's packages for Python, the loader's own paths.

    Args:
        newest: the newest major version to look for.
        roots: folders to look in; None for those of toolkits and packages.
    """
    folders = list(_folders()) if roots is None else list(roots)
    for major in (major for major in _MAJORS if major <= newest):
        name = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
        yield from (str(folder / name) for folder in folders if (folder / name).is_file())
        yield name


def _folders() -> Iterator[Path]:
    toolkits = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    toolkits += [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True), Path("/opt/cuda")]
    for toolkit in toolkits:
        yield from (toolkit / "lib64", toolkit / "targets" / "x86_64-linux" / "lib", toolkit / "bin")
    for packages in [*site.getsitepackages(), site.getusersitepackages(), *sys.path]:
        for part in ("cu13", "cublas"):
            yield from (Path(packages) / "nvidia" / part / end for end in ("lib", "bin"))


def _load(place: str) -> Any:
    """The library; with it the one it stands on, which the loader may not find by itself."""
    try:
        folder, name = os.path.split(place)
        if folder:
            light = Path(folder, name.replace("cublas", "cublasLt"))
            if light.is_file():
                ctypes.CDLL(str(light), ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(place)
    except OSError:
        return None


def _version(functions: Any) -> tuple[int, int, int] | None:
    """The version that the library itself tells; None where it is no cuBLAS but stands in for one."""
    numbers = []
    for which in range(3):
        value = c_int(-1)
        try:
            status = functions.cublasGetProperty(which, byref(value))
        except AttributeError:
            return None
        if status != 0 or value.value < 0:
            return None
        numbers.append(value.value)
    return (numbers[0], numbers[1], numbers[2]) if numbers[0] in _MAJORS else None


class Product:
    """Products of square matrices of float16, with sums in float32, on the current CUDA context.

    Args:
        library: cuBLAS.
        size: rows and columns.

    Raises:
        InferenceError: cuBLAS does not start.
    """

    def __init__(self, library: Library, size: int) -> None:
        self._functions, self._size = library.functions, size
        self._handle = c_void_p()
        self._one, self._zero = c_float(1.0), c_float(0.0)
        functions = self._functions
        functions.cublasCreate_v2.argtypes = [ctypes.POINTER(c_void_p)]
        functions.cublasDestroy_v2.argtypes = [c_void_p]
        whole, pointer, address = c_int, c_void_p, c_uint64
        functions.cublasGemmEx.argtypes = [
            pointer, whole, whole, whole, whole, whole, pointer, address, whole, whole, address, whole, whole, pointer,
            address, whole, whole, whole, whole,
        ]  # fmt: skip
        self._check("cublasCreate_v2", functions.cublasCreate_v2(byref(self._handle)))
        if not self._handle.value:
            raise InferenceError(f"{library.path} gives no handle.")

    def __call__(self, first: int, second: int, result: int) -> None:
        """Start ``result = first @ second``, all row-major in the GPU's memory."""
        n, half = self._size, _HALF
        status = self._functions.cublasGemmEx(
            # cuBLAS is column-major: what it takes for second and first are their transposes, and so is the result.
            self._handle, 0, 0, n, n, n, byref(self._one), second, half, n, first, half, n, byref(self._zero),
            result, half, n, _COMPUTE_FLOAT, _DEFAULT_ALGORITHM,
        )  # fmt: skip
        self._check("cublasGemmEx", status)

    def close(self) -> None:
        """Free the handle. Harmless when closed."""
        if self._handle.value:
            self._functions.cublasDestroy_v2(self._handle)
            self._handle = c_void_p()

    def _check(self, name: str, status: int) -> None:
        if status != 0:
            raise InferenceError(f"cuBLAS's {name} failed with status {status}.")
