"""What happens to a connection before there is a request: nonsense, headers without end, nobody who says anything."""

import contextlib
import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from llama_pajamas_run_core.server import connection as module

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def connected(live):
    parts = urlsplit(live.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=5)


def until_closed(connection):
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def until_quiet(connection, seconds=0.15):
    received = b""
    connection.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        while piece := connection.recv(65536):
            received += piece
    return received


def status_and_error(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split()[1]), error["message"]


def test_what_is_no_http_gets_an_error_in_openais_shape(live):
    with connected(live) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert status_and_error(until_closed(connection)) == (400, "The request is not valid HTTP.")


def test_headers_without_end_are_refused(live):
    with connected(live) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"x" * 100_000)
        assert status_and_error(until_closed(connection)) == (431, "The request's headers are too large.")


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost:"])
def test_a_connection_without_a_request_is_closed(make_live, monkeypatch, said):
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    live = make_live()
    start = time.monotonic()
    with connected(live) as connection:
        connection.sendall(said)
        assert until_closed(connection) == b""
    assert 0.1 < time.monotonic() - start < 3


def test_headers_that_drip_are_not_waited_for(make_live, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    live = make_live()
    with connected(live) as connection:
        connection.sendall(HEALTH)  # the second request of a connection is no different
        assert b"200 OK" in until_quiet(connection)
        connection.settimeout(0.02)
        for byte in b"GET /" + b"h" * 200:
            connection.sendall(bytes((byte,)))
            with contextlib.suppress(TimeoutError):
                assert connection.recv(1) == b""
                return
    raise AssertionError("it was waited for")


def test_one_that_is_used_stays(make_live, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    live = make_live(options={"echo": {"pace": 0.2}})
    body = json.dumps({"model": "echo", "prompt": "a b"}).encode()
    slow = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with connected(live) as connection:
        connection.sendall(slow + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert b'"a b"' in until_quiet(connection, 1.0)
        time.sleep(0.3)
        connection.sendall(HEALTH)
        assert b"200 OK" in until_quiet(connection)
