"""How the server behaves."""

import ipaddress
from dataclasses import dataclass, field
from typing import Literal

from llama_pajamas_run_core.codecs.limits import DEFAULT_LIMITS
from llama_pajamas_run_core.codecs.limits import Limits as DecodeLimits
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.thresholds import Thresholds

#: What a stream sends during silence: an SSE comment, an empty chunk, or nothing.
KeepAlive = Literal["comment", "chunk", "off"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of everything that one request may bring.

    Attributes:
        body: bytes of a request's body.
        upload: bytes of one uploaded or embedded file.
        media: pictures and sounds in one request.
        decoded: what files may unfold to.
    """

    body: int = 40 * 2**20
    upload: int = 25 * 2**20
    media: int = 16
    decoded: DecodeLimits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server behaves.

    Attributes:
        host: the address it listens on.
        port: the port it listens on; 0 takes a free one.
        api_keys: a request must carry one of them as a bearer token; none are asked for where there are none.
        insecure: listen beyond this machine without an API key.
        cors_origins: origins whose pages may call the server ("https://app.example"); "*" allows all.
        allowed_hosts: the only names by which the server may be called, against DNS rebinding; None stands for the
            loopback names when it listens on loopback, and for any otherwise.
        sse_keep_alive: what a stream sends during silence.
        sse_silence: seconds of silence after which it does.
        request_timeout: seconds that a request's body may take to come, and again the work on it.
        queue_timeout: seconds that a request may wait for its model, loading included.
        drain_timeout: seconds that running requests get when the server stops.
        fetch_media: whether pictures and sounds may be given as http(s) URLs, which the server then fetches.
        metrics: whether /metrics answers.
        thresholds: of temperature and memory, past which there are warnings and models are no longer loaded.
        watch_interval: seconds between readings of the hardware.
        docs: whether /docs and /openapi.json answer.
        limits: the most of everything that one request may bring.
        preload: models that are loaded before the server is ready, and stay.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    insecure: bool = False
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] | None = None
    sse_keep_alive: KeepAlive = "comment"
    sse_silence: float = 15.0
    request_timeout: float = 600.0
    queue_timeout: float = 300.0
    drain_timeout: float = 10.0
    fetch_media: bool = False
    metrics: bool = True
    thresholds: Thresholds = field(default_factory=Thresholds)
    watch_interval: float = 2.0
    docs: bool = True
    limits: Limits = field(default_factory=Limits)
    preload: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """See that the keys can be used, and write the origins as browsers do.

        Raises:
            BadInput: a key is empty or has spaces around it, which a header cannot carry.
        """
        if any(not key or key != key.strip() for key in self.api_keys):
            raise BadInput("An API key is empty or has spaces around it, so that no client could send it.")
        origins = tuple(origin.strip().lower().rstrip("/") for origin in self.cors_origins)
        object.__setattr__(self, "cors_origins", origins)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names by which the server may be called, or None for any."""
        if self.allowed_hosts is not None:
            return frozenset(host.lower() for host in self.allowed_hosts)
        return frozenset({"localhost", "127.0.0.1", "::1", self.host.lower()}) if self.loopback else None


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
