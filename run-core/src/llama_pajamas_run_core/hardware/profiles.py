"""Profiles as JSON: recorded on one machine, used on another for tests and planning."""

import json
from dataclasses import asdict
from typing import Any

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.types.hardware import AppleChip, GPULink, HardwareProfile, NvidiaGPU, Processor


def to_json(profile: HardwareProfile, *, indent: int | None = 2) -> str:
    """A profile as JSON text."""
    fields = asdict(profile)
    fields["processor"]["features"] = sorted(profile.processor.features)
    return json.dumps(fields, indent=indent)


def from_json(text: str) -> HardwareProfile:
    """A profile from JSON text; fields that are left out have their defaults.

    Raises:
        BadInput: the text is no profile; the message says what is wrong.
    """
    try:
        fields: dict[str, Any] = json.loads(text)
        processor = dict(fields.pop("processor"))
        processor["features"] = frozenset(processor.get("features", ()))
        gpus = tuple(_gpu(entry) for entry in fields.pop("nvidia", ()))
        apple = fields.pop("apple", None)
        chip = None if apple is None else AppleChip(**apple)
        links = tuple(GPULink(**entry) for entry in fields.pop("links", ()))
        return HardwareProfile(processor=Processor(**processor), nvidia=gpus, apple=chip, links=links, **fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"The text is no hardware profile: {error}.") from error


def _gpu(fields: dict[str, Any]) -> NvidiaGPU:
    pairs = {name: (int(fields[name][0]), int(fields[name][1])) for name in ("compute_capability", "cuda")}
    return NvidiaGPU(**{**fields, **pairs})
