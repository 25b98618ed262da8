"""A hub on this machine: as much of the Hugging Face hub's protocol as pulling a model takes, and ways to break it.

``GET /api/models/OWNER/NAME[/revision/REV]?blobs=true`` lists a repository; ``/OWNER/NAME/resolve/REV/FILE`` answers
with X-Repo-Commit, ETag and the size, for LFS files with a redirect (302, X-Linked-Etag, X-Linked-Size) to
``/cdn/SHA256``, which serves ranges.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repo:
    """A repository.

    Attributes:
        files: name -> content.
        lfs: the endings of the files that lie in large file storage.
        gated: whether files are only for those who were let in.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    lfs: tuple[str, ...] = (".gguf", ".onnx", ".bin", ".safetensors", ".onnx_data")
    gated: bool = False
    tags: tuple[str, ...] = ()

    def entry(self, name: str) -> dict[str, object]:
        """The file as the listing has it."""
        content = self.files[name]
        entry: dict[str, object] = {
            "rfilename": name,
            "size": len(content),
            "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        }
        if name.endswith(self.lfs):
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry


@dataclass
class Hub:
    """The hub's state, to be set by a test.

    Attributes:
        address: "http://127.0.0.1:PORT".
        repos: "OWNER/NAME" -> repository.
        cuts: after how many bytes each of the next downloads breaks off.
        failures: the statuses with which the next downloads are refused.
        ranges: whether the storage serves parts of files.
        corrupt: whether the storage serves wrong bytes.
        missing: how many bytes the storage lacks at the end of every file, without knowing it.
        requests: (method, path, Range header) of every request so far.
    """

    address: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    ranges: bool = True
    corrupt: bool = False
    missing: int = 0
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def downloads(self) -> list[tuple[str, str, str | None]]:
        """The requests for bytes of files."""
        return [request for request in self.requests if request[0] == "GET" and not request[1].startswith("/api")]

    def blob(self, sha256: str) -> bytes | None:
        """The content with that hash."""
        contents = (content for repo in self.repos.values() for content in repo.files.values())
        return next((content for content in contents if hashlib.sha256(content).hexdigest() == sha256), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._route(body=True)

    def do_HEAD(self) -> None:
        self._route(body=False)

    def _route(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if listing := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(listing[1], listing[2])
        elif wanted := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(wanted[1], wanted[2], wanted[3], body)
        elif stored := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            content = self.hub.blob(stored[1])
            self._serve(content or b"", {"ETag": f'"{stored[1]}"'}, body)
        else:
            self._answer(404, b"", {})

    def _list(self, name: str, revision: str | None) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._answer(401, b'{"error": "Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
        elif revision not in (None, "main", repo.commit):
            self._answer(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [repo.entry(file) for file in repo.files]
            listing = {"id": name, "sha": repo.commit, "siblings": siblings, "tags": list(repo.tags), "private": False}
            self._answer(200, json.dumps({**listing, "gated": "auto" if repo.gated else False}).encode(), {})

    def _resolve(self, name: str, revision: str, file: str, body: bool) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif repo.gated:
            self._answer(401, b"Access to this model is restricted.", {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", repo.commit):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif file not in repo.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            entry = repo.entry(file)
            headers = {"X-Repo-Commit": repo.commit}
            if lfs := entry.get("lfs"):
                assert isinstance(lfs, dict)
                headers |= {"X-Linked-Etag": f'"{lfs["sha256"]}"', "X-Linked-Size": str(lfs["size"])}
                self._answer(302, b"", {**headers, "Location": f"{self.hub.address}/cdn/{lfs['sha256']}"})
            else:
                self._serve(repo.files[file], {**headers, "ETag": f'"{entry["blobId"]}"'}, body)

    def _serve(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        if self.hub.failures:
            self._answer(self.hub.failures.pop(0), b"", {})
            return
        content = content[: len(content) - self.hub.missing]
        status, start = 200, 0
        if self.hub.ranges and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")):
            start = int(asked[1])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        piece = content[start:]
        if self.hub.corrupt:
            piece = bytes(byte ^ 1 for byte in piece)
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(piece)), "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if self.hub.cuts and len(piece) > self.hub.cuts[0]:
            self.wfile.write(piece[: self.hub.cuts.pop(0)])
            self.close_connection = True  # fewer bytes than promised: the client sees the connection break
        else:
            self.wfile.write(piece)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that listens on a free port of 127.0.0.1."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
