"""Fetching URLs that strangers wrote."""

import contextlib
import http.server
import ipaddress
import socket
import threading
import time

import pytest

from llama_pajamas_run_core.errors import BadInput, TooLarge
from llama_pajamas_run_core.server import fetch as module
from llama_pajamas_run_core.server.fetch import fetch
from llama_pajamas_run_core.server.media import media_bytes
from llama_pajamas_run_core.server.settings import Settings

REFUSED = [
    "http://127.0.0.1:{port}/ok",
    "http://localhost:{port}/ok",
    "http://[::1]:{port}/ok",
    "http://0.0.0.0:{port}/ok",
    "http://2130706433:{port}/ok",
    "http://0x7f000001:{port}/ok",
    "http://0177.0.0.1:{port}/ok",
    "http://[::ffff:127.0.0.1]:{port}/ok",
    "http://127.1:{port}/ok",
    "http://127.0.0.1.:{port}/ok",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "http://[2002:7f00:1::]/",
    "http://[64:ff9b::7f00:1]:{port}/ok",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[fec0::1]/",
    "http://[::127.0.0.1]:{port}/ok",
    "http://[ff02::1]/",
    "http://allowed.example\\@127.0.0.1:{port}/ok",
    "http://allowed.example@127.0.0.1:{port}/ok",
    "http://allowed.example\t@127.0.0.1:{port}/ok",
    "http://127.0.0.1:{port}/ok#@allowed.example",
    "http://127.0.0.1:{port}:80/ok",
    "http:///ok",
    "http://",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "http://127.0.0.1:99999/",
    "http://exa mple/",
    "http://\u2488\u2488/",
]


@pytest.fixture(scope="module")
def server():
    """A server on the loopback address that remembers who called."""
    called = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            called.append(self.path)
            if self.path == "/redirect":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/")
                self.end_headers()
                return
            self.send_response(200)
            if self.path == "/cut":
                self.send_header("Content-Length", "5")
            if self.path in ("/drip", "/drip-body"):
                self.drip()
                return
            self.end_headers()
            self.wfile.write(b"x" * (5000 if self.path == "/large" else 3))

        def drip(self):
            """A header, or a body, that goes on for a minute."""
            self.flush_headers()
            if self.path == "/drip-body":
                self.wfile.write(b"\r\n")
            with contextlib.suppress(OSError):
                for _ in range(600):
                    self.wfile.write(b"x")
                    time.sleep(0.1)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        running.called = called
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_not_public_is_never_called(server, url, monkeypatch):
    def resolve(host, port, **how):  # numbers alone: no name is looked up in a test
        return real(host, port, flags=socket.AI_NUMERICHOST if host != "localhost" else 0, **how)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server.called.clear()
    with pytest.raises(BadInput) as caught:
        fetch(url.format(port=server.server_port), limit=1000, param="image")
    assert caught.value.param == "image"
    assert server.called == []
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("mixed", [["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"], []])
def test_a_name_with_one_private_address_is_refused(mixed, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in mixed]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(BadInput):
        fetch("http://name.example/", limit=10, param="image")


@pytest.fixture
def public(server, monkeypatch):
    """As if the loopback address were public, for one look alone: the second would find another."""
    addresses = iter(["127.0.0.1"])
    monkeypatch.setattr(module, "_public_address", lambda host, port: next(addresses))
    return f"http://name.example:{server.server_port}"


def test_a_public_url_is_read(public):
    assert fetch(f"{public}/ok", limit=10, param="image") == b"xxx"


def test_redirects_are_not_followed(public):
    with pytest.raises(BadInput, match="status 302"):
        fetch(f"{public}/redirect", limit=10, param="image")


def test_a_long_answer_is_cut_off(public):
    with pytest.raises(TooLarge):
        fetch(f"{public}/large", limit=1000, param="image")


@pytest.mark.parametrize("path", ["/drip", "/drip-body"])
def test_a_server_that_drips_is_left(public, path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.5)
    start = time.monotonic()
    with pytest.raises(BadInput, match="too long"):
        fetch(f"{public}{path}", limit=1000, param="image")
    assert 0.4 < time.monotonic() - start < 3


def test_half_a_file_is_none(public):
    with pytest.raises(BadInput, match="cannot be read"):
        fetch(f"{public}/cut", limit=1000, param="image")


@pytest.mark.parametrize("text", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"])
def test_public_addresses_are_reached_from_any_network(text):
    assert module._public(ipaddress.ip_address(text))


def test_nothing_is_fetched_unless_it_is_allowed(server):
    url = f"http://127.0.0.1:{server.server_port}/ok"
    server.called.clear()
    with pytest.raises(BadInput, match="does not fetch"):
        media_bytes(url, Settings(), param="image")
    with pytest.raises(BadInput, match="cannot be reached"):
        media_bytes(url, Settings(fetch_media=True), param="image")
    assert server.called == []
