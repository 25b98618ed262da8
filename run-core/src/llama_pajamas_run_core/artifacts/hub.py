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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llama_pajamas_run_core.artifacts.catalogue import check_id, is_id
from llama_pajamas_run_core.artifacts.choice import Choice, choose
from llama_pajamas_run_core.artifacts.formats import identify
from llama_pajamas_run_core.artifacts.hub_client import Hub, Interrupted, Remote, Stream
from llama_pajamas_run_core.artifacts.store import Manifest, Store, StoredFile, now, safe_relative
from llama_pajamas_run_core.errors import BadInput, LoadError, MissingDependency, Unsupported, UserError

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
        UserError: access has to be asked for, or the disk is too full or may not be written to.
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
    check_id(model)
    store = Store() if store is None else store
    hub = Hub(endpoint or os.environ.get("HF_ENDPOINT"))
    try:
        with _locked(store.lock_file(model)):
            return _pull(hub, store, model, repo, variant or None, revision, progress or (lambda _: None))
    except OSError as error:
        if isinstance(error, ConnectionError):  # the progress is told to somebody who has left
            raise
        raise UserError(
            f"{store.root} cannot be written: {error.strerror or error}.",
            hint="Set LLAMA_PAJAMAS_HOME to a folder that can.",
        ) from error


def _pull(
    hub: Hub,
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
    hub: Hub,
    repo: str,
    commit: str,
    wanted: list[Remote],
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

        def report(file_done: int, file: Remote = file, before: int = done) -> None:
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


def _fetch(hub: Hub, repo: str, commit: str, file: Remote, path: Path, report: Callable[[int], None]) -> str:
    """Fetch a file, going on from what is here of it.

    Returns:
        its sha256.
    """
    part = _part(path)
    if path.is_file():  # whole, from an interrupted pull; its hash is checked again below
        os.replace(path, part)
    tries, best = _TRIES, part.stat().st_size if part.exists() else 0
    while (have := part.stat().st_size if part.exists() else 0) < file.size or not part.exists():
        report(have)
        problem = Interrupted("it ended early")
        try:
            _append(hub.stream(repo, commit, file.name, have), part, have, report)
        except Interrupted as error:
            problem = error
        after = part.stat().st_size if part.exists() else 0
        if after >= file.size and part.exists():
            break
        # A storage that serves no ranges begins again each time: only what is more than ever before is progress.
        tries, best = (_TRIES, after) if after > best else (tries - 1, best)
        if tries == 0:
            raise LoadError(
                f"The connection to {hub.endpoint} broke while {file.name} was fetched: {problem}.",
                hint="Pull again: it goes on where it ended.",
            ) from problem
        _log.warning("file=%s interrupted at %d of %d bytes: %s", file.name, after, file.size, problem)
        if after <= have:
            time.sleep(0.2 * 2 ** (_TRIES - tries))
    sha256 = _verify(part, file, repo)
    report(file.size)
    os.replace(part, path)
    return sha256


def _append(stream: Stream, part: Path, have: int, report: Callable[[int], None]) -> None:
    with stream as (start, pieces), part.open("r+b" if have else "wb") as out:
        # A server that ignores the range begins again at 0.
        out.seek(start)
        out.truncate()
        done = start
        for piece in pieces:
            out.write(piece)
            done += len(piece)
            report(done)


def _verify(part: Path, file: Remote, repo: str) -> str:
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
    id: str, repo: str, commit: str, choice: Choice, wanted: list[Remote], hashes: dict[str, str], folder: Path
) -> Manifest:
    main = folder if choice.main == "." else folder / safe_relative(choice.main)
    found = identify(main)
    if found.task is None:
        raise Unsupported(f"{repo} holds {found.label}, which no backend loads.", hint=found.advice, param="model")
    files = tuple(StoredFile(file.name, file.size, hashes[file.name]) for file in wanted)
    alias = f"{repo}:{choice.variant}"
    aliases = (alias,) if choice.variant is not None and ":" not in id and is_id(alias) else ()
    return Manifest(id, repo, commit, found.name, found.task, choice.main, files, now(), aliases)


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
