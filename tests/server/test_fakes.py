"""The fakes keep the contracts that real backends keep; else tests that use them would prove nothing."""

from functools import partial
from typing import Any

import pytest

from llama_pajamas_run_core.testing.fakes import FakeBatchLLM, FakeLLM, FakeSTT, FakeTTS, FakeVision
from llama_pajamas_run_core.testing.llm import LLMContract
from llama_pajamas_run_core.testing.stt import STTContract
from llama_pajamas_run_core.testing.tts import TTSContract
from llama_pajamas_run_core.testing.vision import VisionContract


class TestFakeLLM(LLMContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Any:
        return partial(FakeLLM, __file__, pace=0.005)


class TestFakeBatchLLM(LLMContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Any:
        return partial(FakeBatchLLM, __file__, pace=0.005)


class TestFakeSTT(STTContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Any:
        return partial(FakeSTT, __file__)


class TestFakeTTS(TTSContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Any:
        return partial(FakeTTS, __file__)


class TestFakeDetector(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Any:
        return partial(FakeVision, __file__, does="detect")


class TestFakeClassifier(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Any:
        return partial(FakeVision, __file__, does="classify")


class TestFakeEmbedder(VisionContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Any:
        return partial(FakeVision, __file__, does="embed")
