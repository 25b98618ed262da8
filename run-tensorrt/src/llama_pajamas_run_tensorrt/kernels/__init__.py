"""The CUDA source of what comes before and after a vision model, and its compiling for a GPU.

The source is compiled when a model is first loaded, by NVRTC or nvcc, whichever is there, and kept for the next time.
Nothing here imports an SDK.
"""

import ctypes
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from llama_pajamas_run_core.errors import MissingDependency
from llama_pajamas_run_tensorrt.engine_file import engine_cache
from llama_pajamas_run_tensorrt.files import write_whole

logger = logging.getLogger(__name__)

SOURCE: Final = Path(__file__).with_name("vision.cu")
#: The source's struct Picture, a struct.Struct format: pixels, width, height, across, down, left, top, row, confidence,
#: iou, limit.
PICTURE: Final = "<Q7iffi16x"
PICTURE_BYTES: Final = 64
#: The source's struct Box.
BOX: Final = np.dtype(
    [("box", np.float32, 4), ("score", np.float32), ("kind", np.int32), ("place", np.int32), ("unused", np.int32)]
)
#: MOST_FOUND and MOST_KEPT of the source.
MOST_FOUND, MOST_KEPT = 16_384, 300
#: The most places of a head that the source's keys tell apart.
MOST_PLACES: Final = 1 << 18
#: TILE_X, TILE_Y and CHUNK of the source.
TILE: Final = (32, 8)
SUPPRESS_THREADS: Final = 256

# Products and sums are rounded one by one, as NumPy rounds them.
_FLAGS: Final = ("--fmad=false",)
_NVRTC: Final = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so")
_COMPILE_SECONDS: Final = 120


def compiled(capability: tuple[int, int]) -> Iterator[bytes]:
    """The kernels for a GPU, by each compiler in turn: a driver may be too old for what the newest one makes.

    Args:
        capability: the GPU's compute capability.

    Yields:
        a CUDA binary.

    Raises:
        MissingDependency: there is no compiler, or none understands the source; the message tells what each said.
    """
    source = SOURCE.read_text("utf-8")
    told = []
    for name, compile_ in _compilers():
        text = f"{source}{capability}{_FLAGS}{name}"
        kept = engine_cache() / "kernels" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.cubin"
        try:
            binary = kept.read_bytes()
        except OSError:
            binary = b""
        if not binary.startswith(b"\x7fELF"):
            try:
                binary = compile_(source, capability)
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                told.append(f"{name}: {error}")
                logger.debug("compiler=%s failed: %s", name, error)
                continue
            _keep(kept, binary)
        yield binary
    why = "; ".join(told) or "neither NVRTC nor nvcc was found"
    raise MissingDependency(
        f"Preparing images on the GPU ({why})", package="nvidia-cuda-nvrtc", install="uv pip install nvidia-cuda-nvrtc"
    )


def _keep(path: Path, binary: bytes) -> None:
    try:
        write_whole(path, binary)
    except OSError as error:  # it is compiled again the next time
        logger.debug("kernels are not kept in %s: %s", path, error)


def _compilers() -> Iterator[tuple[str, Any]]:
    for place in _nvrtc_places():
        try:
            library = ctypes.CDLL(place)
        except OSError:
            continue
        yield place, lambda source, capability, library=library: _by_nvrtc(library, source, capability)
    if (nvcc := _find_nvcc()) is not None:
        yield str(nvcc), lambda source, capability: _by_nvcc(nvcc, source, capability)


def _nvrtc_places() -> Iterator[str]:
    yield from _NVRTC
    try:  # where the packages nvidia-cuda-nvrtc and nvidia-cuda-nvrtc-cu12 put it
        spec = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*"), reverse=True):
            yield str(path)


def _by_nvrtc(library: Any, source: str, capability: tuple[int, int]) -> bytes:
    program = ctypes.c_void_p()

    def call(name: str, *arguments: Any) -> None:
        if code := getattr(library, name)(*arguments):
            library.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise RuntimeError(f"{name}: {library.nvrtcGetErrorString(code).decode()}")

    call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"vision.cu", 0, None, None)
    try:
        flags = (f"--gpu-architecture=sm_{capability[0]}{capability[1]}", *_FLAGS)
        given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        try:
            call("nvrtcCompileProgram", program, len(flags), given)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {_log(library, program)}") from error
        size = ctypes.c_size_t()
        call("nvrtcGetCUBINSize", program, ctypes.byref(size))
        binary = ctypes.create_string_buffer(size.value)
        call("nvrtcGetCUBIN", program, binary)
        return binary.raw
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _log(library: Any, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(max(size.value, 1))
    library.nvrtcGetProgramLog(program, text)
    return " ".join(text.value.decode(errors="replace").split())[:300]


def _find_nvcc() -> Path | None:
    roots = [Path(os.environ[name]) / "bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [*roots, Path("/usr/local/cuda/bin")]
    found = shutil.which("nvcc")
    if found is not None:
        return Path(found)
    return next((folder / "nvcc" for folder in places if (folder / "nvcc").is_file()), None)


def _by_nvcc(nvcc: Path, source: str, capability: tuple[int, int]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vision.cu").write_text(source, "utf-8")
        made = Path(folder) / "vision.cubin"
        done = subprocess.run(
            [nvcc, "-cubin", f"-arch=sm_{capability[0]}{capability[1]}", *_FLAGS, "-o", made, made.with_suffix(".cu")],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(" ".join((done.stderr or done.stdout).split())[:300])
        return made.read_bytes()
