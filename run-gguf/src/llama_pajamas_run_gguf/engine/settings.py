"""What a model wants of sampling, as far as its file says."""

from collections.abc import Mapping

from llama_pajamas_run_core.language.sampling import SamplingSettings
from llama_pajamas_run_gguf.metadata import number


def defaults_of(metadata: Mapping[str, str]) -> SamplingSettings:
    """A model's settings, from its ``general.sampling.*`` keys; llama.cpp's values where it has none."""
    kinds = (
        ("temperature", "temp", float),
        ("top_k", "top_k", int),
        ("top_p", "top_p", float),
        ("min_p", "min_p", float),
        ("repeat_penalty", "penalty_repeat", float),
        ("repeat_window", "penalty_last_n", int),
    )
    found = {name: number(metadata, f"general.sampling.{key}", kind) for name, key, kind in kinds}
    return SamplingSettings(**{name: value for name, value in found.items() if value is not None})  # type: ignore[arg-type]
