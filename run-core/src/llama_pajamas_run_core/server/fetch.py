"""Fetching a URL that a stranger wrote, without reaching anything that is not public.

The address is resolved once, checked, and connected to as it was checked, so that no second look at the name can give
another one; redirects are not followed.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import urlsplit

from llama_pajamas_run_core.errors import BadInput, TooLarge

#: Seconds for the whole exchange.
_PATIENCE = 10.0
_CHUNK = 64 * 1024


def fetch(url: str, *, limit: int, param: str) -> bytes:
    """Read a public URL. Blocks.

    Args:
        url: http or https.
        limit: the most bytes taken.
        param: where the URL stands in the request.

    Raises:
        BadInput: the URL is malformed, its address is not public, or it does not answer with 200.
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
    try:
        connection = _connected(host, port, secure=parts.scheme == "https", deadline=deadline)
    except (OSError, http.client.HTTPException):
        raise BadInput("The URL cannot be reached.", param=param) from None
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "llama-pajamas", "Accept": "*/*"})
        response = connection.getresponse()
        if response.status != 200:
            raise BadInput(f"The URL answers with status {response.status}.", param=param)
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"The URL holds more than {limit // 2**20} MiB.", param=param)
            if time.monotonic() > deadline:
                raise BadInput("The URL takes too long to be read.", param=param)
        return bytes(data)
    except (OSError, http.client.HTTPException, ValueError):
        raise BadInput("The URL cannot be read.", param=param) from None
    finally:
        connection.close()


def _connected(host: str, port: int, *, secure: bool, deadline: float) -> http.client.HTTPConnection:
    address = _public_address(host, port)
    patience = max(deadline - time.monotonic(), 0.1)
    channel = socket.create_connection((address, port), timeout=patience)
    try:
        if secure:
            channel = ssl.create_default_context().wrap_socket(channel, server_hostname=host)
    except BaseException:
        channel.close()
        raise
    connection = http.client.HTTPConnection(host, port, timeout=patience)
    connection.sock = channel
    return connection


def _public_address(host: str, port: int) -> str:
    """An address of the host; all of them must be public."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        address = ipaddress.ip_address(text)
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        if not (address.is_global and inner.is_global) or address.is_multicast:
            raise OSError("not a public address")
    if not found:
        raise OSError("no address")
    return found[0]
