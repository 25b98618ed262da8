"""What holds for every test: no network but this machine's own, no user's models, hardware only where it is there."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes long; asked for with -m slow"))
    marked = {name for item in items for name in ("gpu", "apple") if item.get_closest_marker(name)}
    absent = {name: reason for name, reason in (("gpu", _no_gpu), ("apple", _no_apple)) if name in marked and reason()}
    for item in items:
        for name, reason in absent.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason() or ""))


def _no_gpu() -> str | None:
    from llama_pajamas_run_core.hardware.nvidia import probe_nvidia

    gpus, reason = probe_nvidia()
    return None if gpus else reason


def _no_apple() -> str | None:
    from llama_pajamas_run_core.hardware.apple import probe_apple

    chip, reason = probe_apple()
    return None if chip else reason


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Models and caches of the tests lie in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("LLAMA_PAJAMAS_HOME", str(home))
        yield home


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A test that would reach another machine fails at once, also where there is a network."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to connect to {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        if sys.platform != "win32":  # there asyncio connects without this method, and needs it for its own wake-up pair
            patch.setattr(socket.socket, "connect", local_only)
        yield
