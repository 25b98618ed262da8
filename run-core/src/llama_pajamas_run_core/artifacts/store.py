"""The models that were pulled: a folder each, with a manifest that says what it is and where it came from."""

import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.places import data_dir
from llama_pajamas_run_core.errors import BadInput, LoadError, UnknownModel, UserError
from llama_pajamas_run_core.types.tasks import Task

_log = logging.getLogger(__name__)

_MANIFEST: Final = "manifest.json"
_FILES: Final = "files"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a pulled model.

    Attributes:
        path: within the model's folder, with forward slashes.
        size: bytes.
        sha256: of its content, in hexadecimal.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A pulled model.

    Attributes:
        id: the name by which it is asked for.
        source: where it came from: "OWNER/NAME" on the hub.
        revision: the commit that it came from.
        format: one of the names in ``artifacts.formats``.
        task: what it does.
        path: what a backend loads, within the model's folder; "." for the folder itself.
        files: all its files.
        created: when it was pulled, in seconds since 1970.
        aliases: other names for it.
    """

    id: str
    source: str
    revision: str
    format: str
    task: Task
    path: str
    files: tuple[StoredFile, ...]
    created: int
    aliases: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)

    def to_json(self) -> str:
        """As the text of a manifest file."""
        return json.dumps({"version": _VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """From the text of a manifest file.

        Raises:
            ValueError: it is none, or of another version.
        """
        try:
            fields: Mapping[str, Any] = json.loads(text)
            if fields["version"] != _VERSION:
                raise ValueError(f"its version is {fields['version']}, not {_VERSION}")
            return cls(
                fields["id"], fields["source"], fields["revision"], fields["format"], Task(fields["task"]),
                fields["path"],
                tuple(StoredFile(file["path"], int(file["size"]), file["sha256"]) for file in fields["files"]),
                int(fields["created"]), tuple(fields["aliases"]),
            )  # fmt: skip
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it is no manifest: {error!r}") from error


class Store:
    """The pulled models of this user. Safe to use from several threads and processes.

    Args:
        root: where they are kept; the user's data folder (or LLAMA_PAJAMAS_HOME) if None. Made when first needed.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (data_dir() / "models") if root is None else root
        self._lock = threading.Lock()
        self._known: tuple[tuple[tuple[str, int], ...], tuple[Manifest, ...]] = ((), ())

    def manifests(self) -> tuple[Manifest, ...]:
        """All models, by id. The very same tuple until something changes; a look costs one ``stat`` per model."""
        state = self._state()
        with self._lock:
            if state != self._known[0]:
                read = (self._read(self.root / name) for name, _ in state)
                self._known = state, tuple(sorted(filter(None, read), key=lambda manifest: manifest.id))
            return self._known[1]

    def get(self, id: str) -> Manifest:
        """The model of that id or alias.

        Raises:
            UnknownModel: it was not pulled; the message lists what was.
        """
        manifests = self.manifests()
        by_name = {name: manifest for manifest in reversed(manifests) for name in manifest.aliases}
        by_name |= {manifest.id: manifest for manifest in manifests}
        if id in by_name:
            return by_name[id]
        pulled = tuple(manifest.id for manifest in manifests)
        hint = None if pulled else "No model was pulled yet."
        raise UnknownModel(id, available=pulled, hint=hint)

    def path(self, id: str) -> Path:
        """What a backend loads: the model's file or folder.

        Raises:
            UnknownModel: it was not pulled.
            LoadError: one of its files is gone, or of another size than when it was pulled.
        """
        manifest = self.get(id)
        files = self.folder(manifest.id) / _FILES
        for file in manifest.files:
            path = files / file.path
            actual = path.stat().st_size if path.is_file() else None
            if actual != file.size:
                state = "is missing" if actual is None else f"is {actual:,} bytes long instead of {file.size:,}"
                raise LoadError(f"{path} {state}.", hint=f"Pull it again: llama-pajamas models pull {manifest.id}")
        return files if manifest.path == "." else files / manifest.path

    def remove(self, id: str) -> Manifest:
        """Delete a model.

        Returns:
            what it was.

        Raises:
            UnknownModel: it was not pulled.
            UserError: its files are in use (Windows) or may not be deleted.
        """
        manifest = self.get(id)
        self._discard(self.folder(manifest.id))
        return manifest

    def folder(self, id: str) -> Path:
        """The folder of a model of that id: a readable name, and a hash since ids may differ in case alone."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "--", id)[:80].strip("-.")
        return self.root / f"{readable}-{hashlib.sha256(id.encode()).hexdigest()[:10]}"

    def partial(self, id: str) -> Path:
        """The folder in which a pull of that model collects its files."""
        return self.root / ".partial" / self.folder(id).name

    def lock_file(self, id: str) -> Path:
        """The file to lock while a model of that id is pulled. Its folder is made."""
        path = self.root / ".locks" / f"{self.folder(id).name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def put(self, manifest: Manifest, files: Path) -> None:
        """Take over a folder of files as a model, all or nothing; a model of the same id is replaced.

        Args:
            manifest: what it is.
            files: the folder, on the same disk as the store; it is moved.

        Raises:
            UserError: the old model's files are in use (Windows).
        """
        staged = self.root / ".partial" / f"{self.folder(manifest.id).name}-{uuid.uuid4().hex[:8]}"
        staged.mkdir(parents=True)
        os.replace(files, staged / _FILES)
        (staged / _MANIFEST).write_text(manifest.to_json(), "utf-8")
        target = self.folder(manifest.id)
        if target.exists():
            self._discard(target)
        os.replace(staged, target)

    def _discard(self, folder: Path) -> None:
        trash = self.root / ".partial" / f"trash-{uuid.uuid4().hex[:8]}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(folder, trash)  # at once, so that nobody sees half a model
        except OSError as error:
            raise UserError(
                f"{folder} cannot be removed: {error.strerror or error}.", hint="Close what uses the model first."
            ) from error
        shutil.rmtree(trash, ignore_errors=True)

    def _state(self) -> tuple[tuple[str, int], ...]:
        """The folders that hold a model, each with its manifest's time of change."""
        state = []
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        try:
                            state.append((entry.name, os.stat(os.path.join(entry.path, _MANIFEST)).st_mtime_ns))
                        except OSError:  # a stray folder, or one that is being removed
                            continue
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(state))

    def _read(self, folder: Path) -> Manifest | None:
        try:
            return Manifest.from_json((folder / _MANIFEST).read_text("utf-8"))
        except (OSError, ValueError) as error:
            _log.warning("model=%s is left out: its manifest cannot be used: %s", folder.name, error)
            return None


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def safe_relative(name: str) -> Path:
    """A file's place within a folder, from a name that came from outside.

    Raises:
        BadInput: it would lie outside the folder, or is no usable name on some system.
    """
    parts = name.split("/")
    reserved = any(part in ("", ".", "..") or re.search(r'[\\:*?"<>|\x00-\x1f]', part) for part in parts)
    if reserved or len(name) > 400:
        raise BadInput(f"The file name {name[:80]!r} is not allowed.")
    return Path(*parts)
