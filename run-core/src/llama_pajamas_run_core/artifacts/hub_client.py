"""The hub's two answers, through huggingface-hub: what a repository holds, and a file's bytes."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from llama_pajamas_run_core.errors import LoadError, MissingDependency, PajamasError, UnknownModel, UserError

#: What a commit looks like. It becomes the name of a folder, so nothing else is believed.
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of the repository: its size, and its hash as the hub knows it (sha256 for LFS, git's sha1 for others)."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None


class Interrupted(Exception):
    """The connection broke while a file came in."""


class Hub:
    """A hub.

    Args:
        endpoint: its address; huggingface-hub's default if None.

    Raises:
        LoadError: HF_HUB_OFFLINE is set.
        MissingDependency: huggingface-hub is not installed.
    """

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

    def files(self, repo: str, revision: str | None) -> tuple[str, dict[str, Remote], tuple[str, ...]]:
        """(commit, files by name, tags) of a repository.

        Raises:
            UnknownModel: there is no such repository or revision, or it is not shown.
            UserError: access has to be asked for.
            LoadError: the hub cannot be reached, or gives no sensible answer.
        """
        with self._errors(repo):
            info = self._library.HfApi(endpoint=self.endpoint).model_info(
                repo, revision=revision, files_metadata=True, timeout=30
            )
        files = {}
        for sibling in info.siblings or ():
            lfs = sibling.lfs
            files[sibling.rfilename] = Remote(
                sibling.rfilename,
                int((lfs.size if lfs else sibling.size) or 0),
                lfs.sha256 if lfs else None,
                None if lfs else sibling.blob_id,
            )
        if not _COMMIT.fullmatch(commit := str(info.sha)):
            raise LoadError(f"{self.endpoint} names no commit of {repo}, but {commit[:80]!r}.")
        return commit, files, tuple(info.tags or ())

    def stream(self, repo: str, commit: str, name: str, start: int) -> "Stream":
        """A file's bytes from a place on, for a ``with``."""
        return Stream(self, repo, self._library.hf_hub_url(repo, name, revision=commit, endpoint=self.endpoint), start)

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


class Stream:
    """A file that comes in; ``with`` gives where it begins and its pieces."""

    def __init__(self, hub: Hub, repo: str, url: str, start: int) -> None:
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
            raise Interrupted(_first_line(error)) from error
        self._close = lambda: opened.__exit__(None, None, None)
        try:
            if response.status_code in (408, 429) or response.status_code >= 500:
                raise Interrupted(f"the hub answered with status {response.status_code}")
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
            raise Interrupted(_first_line(error)) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP client below huggingface-hub raises; which client that is depends on the library's version."""
    clients = (sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules)
    return tuple(client.TransportError for client in clients)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
