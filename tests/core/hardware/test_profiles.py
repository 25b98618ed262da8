"""Profiles as JSON, and those of the machines that the selection is tested for."""

from pathlib import Path

import pytest

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.profiles import from_json, to_json

PROFILES = sorted(
    path for folder in ("profiles", "several") for path in (Path(__file__).parent / folder).glob("*.json")
)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_survives_the_way_through_json(path):
    profile = from_json(path.read_text("utf-8"))
    assert from_json(to_json(profile)) == profile
    assert profile.processor.memory >= profile.processor.memory_free > 0
    assert profile.processor.threads >= profile.processor.cores > 0


def test_fields_that_are_left_out_have_their_defaults():
    processor = '{"name": "x", "architecture": "arm64", "cores": 1, "threads": 1}'
    text = f'{{"system": "Linux", "release": "", "processor": {processor}}}'
    profile = from_json(text)
    assert (profile.nvidia, profile.apple, profile.notes, profile.processor.features) == ((), None, {}, frozenset())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"processor": 3}', '{"system": "x", "release": "", "processor": {"nam": "x"}}', "nonsense"],
)
def test_what_is_no_profile_is_refused(text):
    with pytest.raises(BadInput, match="no hardware profile"):
        from_json(text)
