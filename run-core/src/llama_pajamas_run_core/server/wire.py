"""JSON as it goes over the wire."""

import json
import math
from typing import Any

from starlette.responses import Response

#: Characters that many readers of events take for the end of a line, though JSON does not.
_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}

#: ``json.dumps`` makes a new encoder for every call with options like these.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """One line of JSON in UTF-8, by whatever counts as a line.

    Half surrogate pairs, which UTF-8 cannot hold, become question marks.
    """
    text = _encode(value)
    return text.encode() if text.isascii() else text.translate(_BREAKS).encode("utf-8", "replace")


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
