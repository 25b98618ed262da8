"""JSON as it goes over the wire."""

import json
import math
from typing import Any

from starlette.responses import Response


def dump(value: Any) -> bytes:
    """One line of JSON in UTF-8. Half surrogate pairs, which UTF-8 cannot hold, become question marks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def finite(value: float) -> float:
    """A number that JSON can hold; models do produce NaN and infinity."""
    if math.isfinite(value):
        return value
    return 0.0 if math.isnan(value) else math.copysign(9999.0, value)


class Json(Response):
    """A JSON reply."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Serialize the body."""
        return dump(content)
