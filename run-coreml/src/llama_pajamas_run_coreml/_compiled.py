"""Compiled models, kept so that a package is compiled once on a machine."""

import hashlib
import logging
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from llama_pajamas_run_core.artifacts.places import cache_dir

logger = logging.getLogger(__name__)

_compiling = threading.Lock()
_SUFFIX: Final = ".mlmodelc"


class Compiler(Protocol):
    """What compiles packages."""

    @property
    def version(self) -> str:
        """What a compiled model depends on: the system's version and the library's."""

    def compile(self, package: Path, target: Path) -> None:
        """Compile a package into a folder that does not exist yet."""


class CompiledModels:
    """The compiled models in the cache folder.

    A folder's name has the hash of the package's content, of the system's version and of coremltools': a changed
    package, and an updated system, are compiled again.

    Args:
        compiler: what compiles those that are not there.
    """

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._folder = cache_dir() / "coreml"

    def path(self, package: Path) -> tuple[Path, bool]:
        """The compiled model of a package, and whether it was compiled now."""
        target = self._place(package)
        with _compiling:
            if target.is_dir():
                return target, False
            logger.info("%s is compiled for this machine; that takes a while, once", package.name)
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".") as spare:
                made = Path(spare) / f"made{_SUFFIX}"
                self._compiler.compile(package, made)
                try:
                    os.rename(made, target)
                except OSError:  # another process was faster
                    if not target.is_dir():
                        raise
        return target, True

    def again(self, package: Path) -> Path:
        """The compiled model of a package, made anew."""
        target = self._place(package)
        shutil.rmtree(target, ignore_errors=True)
        for mark in target.parent.glob(f"{target.name}.*"):
            mark.unlink(missing_ok=True)
        return self.path(package)[0]

    def is_prepared(self, model: Path, units: str) -> bool:
        """Whether the Neural Engine has seen a compiled model before."""
        return self._mark(model, units).is_file()

    def mark_prepared(self, model: Path, units: str) -> None:
        """Remember that the Neural Engine has seen a compiled model."""
        if model.parent == self._folder:
            with suppress(OSError):  # a folder that cannot be written to costs the next load its wait, and no more
                self._mark(model, units).touch()

    def _mark(self, model: Path, units: str) -> Path:
        return model.with_name(f"{model.name}.{units}")

    def _place(self, package: Path) -> Path:
        digest = hashlib.sha256(self._compiler.version.encode())
        digest.update(content_hash(package))
        return self._folder / f"{package.stem}-{digest.hexdigest()[:16]}{_SUFFIX}"


def content_hash(package: Path) -> bytes:
    """The hash of a package's files and their names. Manifest.json has new random ids in every copy and is left out."""
    digest = hashlib.sha256()
    files = [package] if package.is_file() else sorted(package.rglob("*"))
    for file in files:
        if not file.is_file() or file.name == "Manifest.json":
            continue
        digest.update(str(file.relative_to(package)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.digest()
