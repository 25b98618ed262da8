"""Build llama-server and llama-batched-bench from the llama.cpp inside the installed llama-cpp-python.

    python benchmarks/build_llama_server.py
    python benchmarks/build_llama_server.py --cuda --jobs 16
    python benchmarks/build_llama_server.py --source llama_cpp_python-0.3.36.tar.gz

The source distribution of the same version holds the very same llama.cpp, so that the two differ in nothing but the
server. Without --source it is fetched by pip. The build is kept in the user's cache folder; the last line printed is
the path of llama-server. Needs cmake and a C++17 compiler; with --cuda also the CUDA toolkit.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from llama_pajamas_run_core.artifacts.places import cache_dir

TARGETS = ("llama-server", "llama-batched-bench")
#: As the project builds llama-cpp-python (pyproject.toml, config-settings-package), and only what is measured.
FLAGS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "OFF",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
}


def version() -> str:
    """The installed version of llama-cpp-python."""
    return importlib.metadata.version("llama-cpp-python")


def binary(*, cuda: bool = False) -> Path:
    """Where llama-server lies once it is built."""
    name = f"llama.cpp-{version()}{'-cuda' if cuda else ''}"
    return (
        cache_dir() / "benchmarks" / name / "bin" / ("llama-server.exe" if sys.platform == "win32" else "llama-server")
    )


def fetch(folder: Path) -> Path:
    """Download the source distribution.

    Raises:
        SystemExit: there is no pip, or it fails.
    """
    requirement = f"llama-cpp-python=={version()}"
    # Its build requirements may be wheels; llama.cpp alone is wanted as source.
    only = ["--no-deps", "--no-binary", "llama-cpp-python"]
    arguments = ["download", "--quiet", *only, "--dest", str(folder), requirement]
    done = subprocess.run([*_pip(), *arguments], check=False)
    found = sorted(folder.glob("llama_cpp_python-*.tar.gz"))
    if done.returncode or not found:
        raise SystemExit(f"pip could not download the source of {requirement}; name an archive with --source")
    return found[0]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"]
    if pip := shutil.which("pip"):
        return [pip]
    raise SystemExit("neither pip nor uv is installed; name an archive with --source")


def llama_cpp(source: Path, folder: Path) -> Path:
    """The root of llama.cpp's source.

    Args:
        source: a source distribution (.tar.gz), unpacked or not, or llama.cpp itself.
        folder: where to unpack.

    Raises:
        SystemExit: it is none of these.
    """
    if source.is_file():
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        source = next(path for path in folder.iterdir() if path.is_dir())
    for root in (source / "vendor" / "llama.cpp", source):
        if (root / "tools" / "server").is_dir():
            return root
    raise SystemExit(f"{source} holds no llama.cpp source")


def build(root: Path, target: Path, *, cuda: bool, jobs: int) -> None:
    """Build the tools.

    Args:
        root: llama.cpp's source.
        target: the folder of the build.
        cuda: whether to build the CUDA backend, for the GPUs of this machine.
        jobs: compilers that run at once.

    Raises:
        SystemExit: cmake is not installed.
        subprocess.CalledProcessError: the build fails.
    """
    cmake = shutil.which("cmake")
    if cmake is None:
        raise SystemExit("cmake is not installed; uv tool install cmake")
    flags = FLAGS | ({"GGML_CUDA": "ON", "CMAKE_CUDA_ARCHITECTURES": "native"} if cuda else {})
    subprocess.run(
        [cmake, "-S", str(root), "-B", str(target), *(f"-D{name}={value}" for name, value in flags.items())],
        check=True,
        stdout=sys.stderr,
    )
    subprocess.run(
        [cmake, "--build", str(target), "--config", "Release", "--parallel", str(jobs), "--target", *TARGETS],
        check=True,
        stdout=sys.stderr,
    )


def main() -> None:
    """Build, if that has not been done, and print the path of llama-server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", type=Path, help="llama-cpp-python's .tar.gz, the same unpacked, or llama.cpp's source"
    )
    parser.add_argument("--cuda", action="store_true", help="build for this machine's NVIDIA GPUs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers that run at once")
    parser.add_argument("--force", action="store_true", help="build even if there is a build")
    given = parser.parse_args()
    server = binary(cuda=given.cuda)
    if given.force or not server.exists():
        with tempfile.TemporaryDirectory() as folder:
            source = given.source or fetch(Path(folder))
            build(llama_cpp(source, Path(folder)), server.parent.parent, cuda=given.cuda, jobs=given.jobs)
    print(server)


if __name__ == "__main__":
    main()
