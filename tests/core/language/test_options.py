"""Load options and sampling settings that language runtimes share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.language.options import read_options
from llama_pajamas_run_core.language.sampling import SamplingSettings
from llama_pajamas_run_core.types.chat import GenerationOptions


@dataclass(frozen=True)
class Options:
    n_ctx: int | None = None
    spare: int | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)


LEAST = {"n_ctx": 1, "spare": 0}


def test_options_are_read() -> None:
    assert read_options(Options, {}, LEAST) == Options()
    asked = {"n_ctx": 5, "spare": 0, "adapters": {"a": "file"}}
    assert read_options(Options, asked, LEAST) == Options(5, 0, {"a": "file"})
    assert read_options(Options, {"n_ctx": None}, LEAST) == Options()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 2}, "no load option 'threads'; there are n_ctx, spare, adapters"),
        ({"n_ctx": 0}, "n_ctx must be a whole number of at least 1, not 0"),
        ({"n_ctx": 1.5}, "not 1.5"),
        ({"n_ctx": True}, "not True"),
        ({"spare": -1}, "at least 0"),
        ({"adapters": ["file"]}, "adapters maps names"),
    ],
)
def test_options_that_mean_nothing_are_named(options: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said) as raised:
        read_options(Options, options, LEAST)
    assert raised.value.param == next(iter(options))


def test_a_request_comes_before_the_model_and_the_model_before_the_defaults() -> None:
    model = SamplingSettings(temperature=0.3, top_k=7)
    made = model.resolve(GenerationOptions(temperature=0.0, seed=-1, frequency_penalty=0.5, logit_bias={3: 1.0}))
    assert (made.temperature, made.top_k, made.top_p) == (0.0, 7, 0.95)
    assert made.seed == 2**64 - 1
    assert made.changes_logits
    assert not model.resolve(GenerationOptions()).changes_logits
    assert model.resolve(GenerationOptions()).seed != model.resolve(GenerationOptions()).seed
