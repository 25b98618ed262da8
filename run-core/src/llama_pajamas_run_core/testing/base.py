"""What every backend must do, whatever its modality.

A runtime's test subclasses the suite of the modality and gives the fixture ``make_backend``::

    class TestGGUFSTT(STTContract):
        @pytest.fixture(scope="class")
        @classmethod
        def make_backend(cls):
            return lambda: GGUFSTTBackend("model.bin")

Quirks are declared through the suite's class attributes. A standard test may be replaced only by one that is marked
``xfail`` with a reason, so that a backend cannot quietly leave the contract.
"""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.errors import BadInput, LoadError

#: How many callers ask at once in the concurrency tests.
CALLERS = 4


class BackendContract(ABC):
    """Loading, closing, errors and callers on several threads.

    Attributes:
        repeatable: whether the same request gives exactly the same answer every time.
    """

    repeatable: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def make_backend(cls) -> Callable[[], Backend]:
        """A class-scoped fixture: makes a backend with its model loaded."""

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, make_backend: Callable[[], Any]) -> Iterator[Any]:
        """One backend that the tests of a class share; none closes it."""
        with make_backend() as backend:
            yield backend

    @abstractmethod
    def ask(self, backend: Any) -> Any:
        """A small valid request, whose answers :meth:`same` compares."""

    @abstractmethod
    def ask_wrongly(self, backend: Any) -> Any:
        """A request that must raise BadInput."""

    def same(self, one: Any, other: Any) -> bool:
        """Whether two answers to :meth:`ask` agree."""
        return bool(one == other)

    def test_a_loaded_backend_says_so(self, backend: Any) -> None:
        assert backend.loaded
        assert backend.path is not None

    def test_details_are_json(self, backend: Any) -> None:
        assert json.loads(json.dumps(dict(backend.details))) == dict(backend.details)

    def test_close_is_idempotent(self, make_backend: Callable[[], Any]) -> None:
        backend = make_backend()
        backend.close()
        backend.close()
        assert not backend.loaded

    def test_use_after_close_raises(self, make_backend: Callable[[], Any]) -> None:
        backend = make_backend()
        backend.close()
        with pytest.raises(BadInput, match="load_model"):
            self.ask(backend)

    def test_a_missing_model_is_named(self, make_backend: Callable[[], Any], tmp_path: Path) -> None:
        backend = make_backend()
        with pytest.raises((BadInput, LoadError), match="no-such-model"):
            backend.load_model(tmp_path / "no-such-model")
        assert not backend.loaded
        backend.close()

    def test_a_second_request_after_an_error_works(self, backend: Any) -> None:
        before = self.ask(backend)
        with pytest.raises(BadInput):
            self.ask_wrongly(backend)
        assert self.same(before, self.ask(backend))

    def test_requests_from_several_threads_agree(self, backend: Any) -> None:
        alone = self.ask(backend)
        start = threading.Barrier(CALLERS)

        def call(_: int) -> Any:
            start.wait(timeout=10)
            return self.ask(backend)

        with ThreadPoolExecutor(CALLERS) as callers:
            answers = list(callers.map(call, range(CALLERS)))
        assert all(self.same(alone, answer) for answer in answers)

    def test_no_standard_test_is_replaced(self) -> None:
        for name in dir(type(self)):
            if not name.startswith("test_"):
                continue
            standard = next((c for c in reversed(type(self).__mro__) if name in vars(c)), None)
            used = getattr(type(self), name)
            if (
                standard is None
                or not standard.__module__.startswith(__package__ or "")
                or used is vars(standard)[name]
            ):
                continue
            reasons = [mark.kwargs.get("reason") for mark in getattr(used, "pytestmark", []) if mark.name == "xfail"]
            assert any(reasons), f"{type(self).__name__}.{name} replaces a standard test without xfail(reason=...)."
