"""The contract suites hold their own rule: nobody leaves out a standard test without saying why."""

from collections.abc import Callable

import pytest

from llama_pajamas_run_core.testing.tts import TTSContract


class _Quiet(TTSContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make_backend(cls) -> Callable[[], object]:
        return object


class _Replaces(_Quiet):
    def test_speech_is_sound_at_the_declared_rate(self) -> None:
        """Says nothing."""


class _Explains(_Quiet):
    @pytest.mark.xfail(reason="this voice only whispers")
    def test_speech_is_sound_at_the_declared_rate(self) -> None:
        """Says why."""


class _Adds(_Quiet):
    def test_something_of_its_own(self) -> None:
        """Is not in the contract."""


def test_a_replaced_test_is_found() -> None:
    with pytest.raises(AssertionError, match="test_speech_is_sound_at_the_declared_rate"):
        _Replaces().test_no_standard_test_is_replaced()


@pytest.mark.parametrize("suite", [_Quiet, _Explains, _Adds])
def test_reasons_and_further_tests_are_fine(suite: type[TTSContract]) -> None:
    suite().test_no_standard_test_is_replaced()
