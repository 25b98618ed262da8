"""Pulling models from a Hugging Face hub.

The hub is the one that HF_ENDPOINT names; HF_TOKEN is used where set. Files arrive in a folder beside the store, are
resumed after an interruption, compared with the hub's hashes and checked for their format; only then the model appears
in the store.
"""

import hashlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.artifacts.choice import Choice, choose
from llama_pajamas_run_core.artifacts.formats import identify
from llama_pajamas_run_core.artifacts.store import Manifest, Store, StoredFile, now, safe_relative
from llama_pajamas_run_core.errors import (
    BadInput,
    LoadError,
    MissingDependency,
    PajamasError,
    UnknownModel,
    Unsupported,
    UserError,
)

_log = logging.getLogger(__name__)

_CHUNK: Final = 1 << 20
_SPARE: Final = 64 << 20  # bytes of disk left free
_TRIES: Final = 5
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is.

    Attributes:
        file: the file being fetched, as it is called in the repository.
        done: bytes of all files that are here.
        total: bytes of all files.
        file_done: bytes of this file that are here.
        file_total: bytes of this file.
    """

    file: str
    done: int
    total: int
    file_done: int
    file_total: int


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file of the repository: its size, and its hash as the hub knows it (sha256 for LFS, git's sha1 for others)."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None


def pull(
    model: str,
    *,
    store: Store | None = None,
    quantization: str | None = None,
    revision: str | None = None,
    progress: Callable[[PullProgress], None] | None = None,
    endpoint: str | None = None,
) -> Manifest:
    """Fetch a model from the hub into the store, or bring it up to date.

    Args:
        model: "OWNER/NAME", or "OWNER/NAME:VARIANT" with a quantization, voice or model size of the repository. It is
            also the id that the model has afterwards.
        store: where to keep it; the default store if None.
        quantization: the variant, where ``model`` names none. Without either, Q4_K_M or what comes nearest.
        revision: branch, tag or commit; the main branch if None.
        progress: called after every piece (some 10 KiB to 1 MiB), on the calling thread. An exception that it raises
            ends the pull; a later one goes on where it ended.
        endpoint: the hub's address; HF_ENDPOINT or huggingface-hub's default if None.

    Returns:
        the model's manifest.

    Raises:
        BadInput: the name is none, or the repository has no such variant.
        UnknownModel: the hub has no such repository or revision, or does not show it.
        Unsupported: no runtime loads what the repository holds.
        UserError: access has to be asked for, or the disk is too full.
        LoadError: the hub cannot be reached, or a file arrived damaged.
        MissingDependency: huggingface-hub is not installed.
    """
    repo, _, variant = model.partition(":")
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise BadInput(
            f"'{model[:200]}' is no model of a hub.", hint="Write OWNER/NAME or OWNER/NAME:VARIANT.", param="model"
        )
    if not variant and quantization:
        variant, model = quantization, f"{model}:{quantization}"
    store = Store() if store is None else store
    hub = _Hub(endpoint or os.environ.get("HF_ENDPOINT"))
    with _locked(store.lock_file(model)):
        return _pull(hub, store, model, repo, variant or None, revision, progress or (lambda _: None))


def _pull(
    hub: "_Hub",
    store: Store,
    id: str,
    repo: str,
    variant: str | None,
    revision: str | None,
    progress: Callable[[PullProgress], None],
) -> Manifest:
    have = next((manifest for manifest in store.manifests() if manifest.id == id), None)
    try:
        commit, remote, tags = hub.files(repo, revision)
    except LoadError as error:
        if have is not None and revision in (None, have.revision):
            _log.warning("model=%s is kept as it is: %s", id, error)
            return have
        raise
    choice = choose(repo, tuple(remote), variant, tags)
    if have is not None and have.revision == commit and _whole(store, have):
        return have
    partial = store.partial(id)
    _keep_revision(partial, commit)
    wanted = [remote[name] for name in choice.files]
    hashes = _fetch_all(hub, repo, commit, wanted, partial / commit, progress)
    manifest = _describe(id, repo, commit, choice, wanted, hashes, partial / commit)
    store.put(manifest, partial / commit)
    shutil.rmtree(partial, ignore_errors=True)
    _log.info("model=%s revision=%s size=%d pulled", id, commit, manifest.size)
    return manifest


def _whole(store: Store, manifest: Manifest) -> bool:
    try:
        store.path(manifest.id)
    except LoadError:
        return False
    return True


def _keep_revision(partial: Path, commit: str) -> None:
    """Drop what is left of pulls of other revisions: their files must not mix."""
    if partial.is_dir():
        for other in partial.iterdir():
            if other.name != commit:
                shutil.rmtree(other, ignore_errors=True)


def _fetch_all(
    hub: "_Hub",
    repo: str,
    commit: str,
    wanted: list[_Remote],
    folder: Path,
    progress: Callable[[PullProgress], None],
) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    places = {file.name: folder / safe_relative(file.name) for file in wanted}
    total = sum(file.size for file in wanted)
    _check_disk(folder, total - sum(_present(path) for path in places.values()))
    hashes, done = {}, 0
    for file in wanted:
        path = places[file.name]
        path.parent.mkdir(parents=True, exist_ok=True)

        def report(file_done: int, file: _Remote = file, before: int = done) -> None:
            progress(PullProgress(file.name, before + file_done, total, file_done, file.size))

        hashes[file.name] = _fetch(hub, repo, commit, file, path, report)
        done += file.size
    return hashes


def _present(path: Path) -> int:
    """Bytes of a file, or of its beginning, that are here."""
    for candidate in (path, _part(path)):
        if candidate.is_file():
            return candidate.stat().st_size
    return 0


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE > free:
        raise UserError(
            f"The model needs {needed / 1e9:.2f} GB more, but the disk of {folder} has {free / 1e9:.2f} GB free.",
            hint="Free some space, or set LLAMA_PAJAMAS_HOME to a folder on a larger disk.",
        )


def _fetch(hub: "_Hub", repo: str, commit: str, file: _Remote, path: Path, report: Callable[[int], None]) -> str:
    """Fetch a file, going on from what is here of it.

    Returns:
        its sha256.
    """
    part = _part(path)
    if path.is_file():  # whole, from an interrupted pull; its hash is checked again below
        os.replace(path, part)
    tries = _TRIES
    while (have := part.stat().st_size if part.exists() else 0) < file.size or not part.exists():
        report(have)
        try:
            _append(hub.stream(repo, commit, file.name, have), part, have, report)
        except _Interrupted as error:
            after = part.stat().st_size if part.exists() else 0
            tries = _TRIES if after > have else tries - 1
            if tries == 0:
                raise LoadError(
                    f"The connection to {hub.endpoint} broke while {file.name} was fetched: {error}.",
                    hint="Pull again: it goes on where it ended.",
                ) from error
            _log.warning("file=%s interrupted at %d of %d bytes: %s", file.name, after, file.size, error)
            if after == have:
                time.sleep(0.2 * 2 ** (_TRIES - tries))
        if file.size == 0:
            break
    sha256 = _verify(part, file, repo)
    report(file.size)
    os.replace(part, path)
    return sha256


def _append(stream: "_Stream", part: Path, have: int, report: Callable[[int], None]) -> None:
    with stream as (start, pieces), part.open("r+b" if have else "wb") as out:
        # A server that ignores the range begins again at 0.
        out.seek(start)
        out.truncate()
        done = start
        for piece in pieces:
            out.write(piece)
            done += len(piece)
            report(done)


def _verify(part: Path, file: _Remote, repo: str) -> str:
    size = part.stat().st_size
    sha256, git_sha1 = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with part.open("rb") as content:
        while piece := content.read(_CHUNK):
            sha256.update(piece)
            if file.sha256 is None:
                git_sha1.update(piece)
    expected, actual = file.sha256, sha256.hexdigest()
    if expected is None and file.git_sha1 is not None:
        expected, actual = file.git_sha1, git_sha1.hexdigest()
    if size != file.size or (expected is not None and expected != actual):
        part.unlink()
        raise LoadError(
            f"{file.name} of {repo} arrived damaged: its hash is {actual} instead of {expected}"
            f" ({size:,} bytes of {file.size:,}).",
            hint="Pull again: this file is fetched anew.",
        )
    return sha256.hexdigest()


def _describe(
    id: str, repo: str, commit: str, choice: Choice, wanted: list[_Remote], hashes: dict[str, str], folder: Path
) -> Manifest:
    main = folder if choice.main == "." else folder / safe_relative(choice.main)
    found = identify(main)
    if found.task is None:
        raise Unsupported(f"{repo} holds {found.label}, which no backend loads.", hint=found.advice, param="model")
    files = tuple(StoredFile(file.name, file.size, hashes[file.name]) for file in wanted)
    alias = f"{repo}:{choice.variant}"
    named = choice.variant is not None and ":" not in id and re.fullmatch(r"[\w./:@-]{1,201}", alias)
    aliases = (alias,) if named else ()
    return Manifest(id, repo, commit, found.name, found.task, choice.main, files, now(), aliases)


class _Interrupted(Exception):
    """The connection broke while a file came in."""


class _Hub:
    """The hub's two questions: what a repository holds, and a file's bytes."""

    def __init__(self, endpoint: str | None) -> None:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise LoadError("HF_HUB_OFFLINE is set, so nothing is fetched.", hint="Unset it to pull models.")
        try:
            import huggingface_hub
            import huggingface_hub.errors
            import huggingface_hub.utils
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "Pulling models", package="huggingface-hub", install='uv pip install "huggingface-hub>=1"'
            ) from error
        self._library: Any = huggingface_hub
        self.endpoint: str = (endpoint or huggingface_hub.constants.ENDPOINT).rstrip("/")

    def files(self, repo: str, revision: str | None) -> tuple[str, dict[str, _Remote], tuple[str, ...]]:
        """(commit, files by name, tags) of a repository."""
        with self._errors(repo):
            info = self._library.HfApi(endpoint=self.endpoint).model_info(
                repo, revision=revision, files_metadata=True, timeout=30
            )
        files = {}
        for sibling in info.siblings or ():
            lfs = sibling.lfs
            files[sibling.rfilename] = _Remote(
                sibling.rfilename,
                int((lfs.size if lfs else sibling.size) or 0),
                lfs.sha256 if lfs else None,
                None if lfs else sibling.blob_id,
            )
        return str(info.sha), files, tuple(info.tags or ())

    def stream(self, repo: str, commit: str, name: str, start: int) -> "_Stream":
        """A file's bytes from a place on."""
        return _Stream(self, repo, self._library.hf_hub_url(repo, name, revision=commit, endpoint=self.endpoint), start)

    @contextmanager
    def _errors(self, repo: str) -> Iterator[None]:
        """Map the library's errors to ours."""
        errors = self._library.errors
        try:
            yield
        except PajamasError:
            raise
        except errors.GatedRepoError as error:
            raise UserError(
                f"{repo} is gated: its owner wants to be asked first.",
                hint=f"Ask for access at {self.endpoint}/{repo}, then set HF_TOKEN to a token of your account.",
                param="model",
            ) from error
        except errors.RevisionNotFoundError as error:
            raise UnknownModel(repo, hint=f"{repo} has no such revision.") from error
        except errors.RepositoryNotFoundError as error:
            raise UnknownModel(
                repo, hint=f"{self.endpoint} has no such repository, or it is private: then set HF_TOKEN."
            ) from error
        except errors.EntryNotFoundError as error:
            raise LoadError(f"A file of {repo} is gone from the hub: {error}.", hint="Pull again.") from error
        except errors.HfHubHTTPError as error:
            raise LoadError(
                f"{self.endpoint} answered with an error: {_first_line(error)}.", hint="Try again later."
            ) from error
        except Exception as error:
            if not isinstance(error, (OSError, *_transport_errors())):
                raise
            raise LoadError(
                f"The hub at {self.endpoint} cannot be reached: {_first_line(error)}.",
                hint="Check the network, or set HF_ENDPOINT to a mirror. Models that are already here work without it.",
            ) from error


class _Stream:
    """A file that comes in; ``with`` gives where it begins and its pieces."""

    def __init__(self, hub: _Hub, repo: str, url: str, start: int) -> None:
        self._hub, self._repo, self._url, self._start = hub, repo, url, start
        self._close: Callable[[], None] = lambda: None

    def __enter__(self) -> tuple[int, Iterator[bytes]]:
        library = self._hub._library
        headers = library.utils.build_hf_headers() | {"Accept-Encoding": "identity"}
        if self._start:
            headers["Range"] = f"bytes={self._start}-"
        opened = library.utils.get_session().stream(
            "GET", self._url, headers=headers, follow_redirects=True, timeout=30
        )
        try:
            response = opened.__enter__()
        except _transport_errors() as error:
            raise _Interrupted(_first_line(error)) from error
        self._close = lambda: opened.__exit__(None, None, None)
        try:
            if response.status_code in (408, 429) or response.status_code >= 500:
                raise _Interrupted(f"the hub answered with status {response.status_code}")
            with self._hub._errors(self._repo):
                library.utils.hf_raise_for_status(response)
        except BaseException:
            self._close()
            raise
        return (self._start if response.status_code == 206 else 0), self._pieces(response)

    def __exit__(self, *_: object) -> None:
        self._close()

    def _pieces(self, response: Any) -> Iterator[bytes]:
        try:
            # Without a chunk size: with one, what came before an interruption is dropped if it is no whole chunk.
            yield from response.iter_bytes()
        except _transport_errors() as error:
            raise _Interrupted(_first_line(error)) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP client below huggingface-hub raises; which client that is depends on the library's version."""
    clients = (sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules)
    return tuple(client.TransportError for client in clients)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, so that one process at a time pulls a model; the second then finds it there."""
    try:
        from filelock import FileLock
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Pulling models", package="filelock", install='uv pip install "huggingface-hub>=1"'
        ) from error
    with FileLock(path):
        yield
