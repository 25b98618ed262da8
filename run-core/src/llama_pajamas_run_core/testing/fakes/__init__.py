"""Backends without models: deterministic, as fast or slow as asked, and as faulty. No weights, no network, no SDK.

They go the same way as real ones: through a descriptor (:data:`FAKE_RUNTIME`), a catalogue (:func:`fake_catalogue`)
and the pool. What they answer can be told in advance, so that a test of a server can tell a right answer from a wrong
one.
"""

from llama_pajamas_run_core.testing.fakes.llm import FakeBatchLLM, FakeLLM
from llama_pajamas_run_core.testing.fakes.load import FakeLoad
from llama_pajamas_run_core.testing.fakes.models import FAKE_RUNTIME, fake_catalogue, fake_entry, fake_planner
from llama_pajamas_run_core.testing.fakes.senses import FakeSTT, FakeTTS, FakeVision

__all__ = [
    "FAKE_RUNTIME",
    "FakeBatchLLM",
    "FakeLLM",
    "FakeLoad",
    "FakeSTT",
    "FakeTTS",
    "FakeVision",
    "fake_catalogue",
    "fake_entry",
    "fake_planner",
]
