"""Fetching a URL that a stranger wrote, without reaching anything that is not public.

The address is resolved once, checked, and connected to as it was checked, so that no second look at the name can give
another one; redirects are not followed.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from llama_pajamas_run_core.errors import BadInput, TooLarge

#: Seconds for the whole exchange.
_PATIENCE = 10.0
_CHUNK = 64 * 1024
#: Where networks without IPv4 put its addresses (RFC 6052): the last four bytes are one.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def fetch(url: str, *, limit: int, param: str) -> bytes:
    """Read a public URL. Blocks.

    Args:
        url: http or https.
        limit: the most bytes taken.
        param: where the URL stands in the request.

    Raises:
        BadInput: the URL is malformed, its address is not public, or it does not answer with 200, or not in time.
        TooLarge: it holds more than ``limit`` bytes.
    """
    deadline = time.monotonic() + _PATIENCE
    try:
        if any(ord(character) <= 32 or character == "\\" for character in url):
            raise ValueError
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
            raise ValueError
        host = host.encode("idna").decode()
    except (ValueError, UnicodeError):
        raise BadInput("The URL is not one that is fetched.", param=param) from None
    with contextlib.ExitStack() as stack:
        try:
            channel = stack.enter_context(_connected(host, port, secure=parts.scheme == "https", deadline=deadline))
        except (OSError, ValueError):
            raise BadInput("The URL cannot be reached.", param=param) from None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            data = _read(channel, host, port, target, limit, param)
        except (OSError, http.client.HTTPException, ValueError):
            data = None
    if time.monotonic() >= deadline:  # a connection that breaks may also look like the end of the data
        raise BadInput("The URL takes too long to be read.", param=param)
    if data is None:
        raise BadInput("The URL cannot be read.", param=param)
    return data


def _read(channel: socket.socket, host: str, port: int, target: str, limit: int, param: str) -> bytes:
    connection = http.client.HTTPConnection(host, port)
    connection.sock = channel
    connection.request("GET", target, headers={"User-Agent": "llama-pajamas", "Accept": "*/*"})
    with connection.getresponse() as response:
        if response.status != 200:
            raise BadInput(f"The URL answers with status {response.status}.", param=param)
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"The URL holds more than {limit // 2**20} MiB.", param=param)
        if response.length:
            raise http.client.IncompleteRead(bytes(data), response.length)
        return bytes(data)


@contextlib.contextmanager
def _connected(host: str, port: int, *, secure: bool, deadline: float) -> Iterator[socket.socket]:
    """A connection that breaks at the deadline.

    A socket's timeout counts anew with every byte, so that a server could drip its answer for days.
    """
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(
            socket.create_connection((_public_address(host, port), port), timeout=_left(deadline))
        )
        if secure:
            context = ssl.create_default_context()
            wrapped = context.wrap_socket(channel, server_hostname=host, do_handshake_on_connect=False)
            channel = stack.enter_context(wrapped)
        alarm = threading.Timer(_left(deadline), _break_off, (channel,))
        alarm.daemon = True
        alarm.start()
        try:
            if isinstance(channel, ssl.SSLSocket):
                channel.do_handshake()
            yield channel
        finally:
            alarm.cancel()


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.1)


def _break_off(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed by now
        # The plain socket's method: that of ssl would take away what another thread is reading from.
        socket.socket.shutdown(channel, socket.SHUT_RDWR)


def _public_address(host: str, port: int) -> str:
    """An address of the host; all of them must be public."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        if not _public(ipaddress.ip_address(text)):
            raise OSError("not a public address")
    if not found:
        raise OSError("no address")
    return found[0]


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the internet's, and so is the older one that it may stand for."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return _public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return _public(inner)
        if address.is_site_local or address.is_reserved:
            return False
    return address.is_global and not address.is_multicast
