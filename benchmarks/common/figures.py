"""Figures: medians with their spread, percentiles, ratios between what was measured side by side."""

import math
import statistics
from collections.abc import Sequence
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie, interpolated; NaN of nothing."""
    if not values:
        return math.nan
    ranked = sorted(values)
    place = (len(ranked) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest, highest, and all values in the order they were measured."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return {"median": None, "low": None, "high": None, "runs": []}
    return {
        "median": rounded(statistics.median(known)),
        "low": rounded(min(known)),
        "high": rounded(max(known)),
        "runs": [rounded(value) for value in known],
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50, p95 and p99, in milliseconds."""
    return {f"p{percent}": _milliseconds(percentile(seconds, percent)) for percent in (50, 95, 99)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The spread of the ratios of values measured in the same repeat: what disturbs a repeat disturbs both."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True) if other > 0])


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def _milliseconds(seconds: float) -> float | None:
    return None if math.isnan(seconds) else rounded(seconds * 1000)
