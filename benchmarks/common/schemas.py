"""Random JSON Schemas of bounded size, the same for the same seed."""

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

_NAMES = "id name city count ratio tags active note kind size owner parent level code when".split()
_WORDS = "red green blue small large north south on off".split()
_PATTERNS = ("^[a-z]{2,5}$", "^[A-Z][0-9]{3}$", "^(ab|cd){1,3}x?$", "^\\d{1,3}-\\d{2}$")
_FORMATS = ("date", "uuid", "ipv4")


class Schemas:
    """Makes schemas; every value that satisfies one is of bounded length.

    Args:
        seed: of the random numbers.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._defined: dict[str, Schema] = {}

    def make(self) -> Schema:
        """The next schema: an object, now and then with definitions that it refers to."""
        self._defined = {}
        if self._rng.random() < 0.3:
            self._defined = {"item": self._object(1)}
        schema = self._object(3)
        return {**schema, "$defs": self._defined} if self._defined else schema

    def _any(self, depth: int) -> Schema:
        kinds: list[Callable[[int], Schema]] = [
            self._string,
            self._text_of_a_form,
            self._integer,
            self._number,
            self._enum,
            self._const,
            self._simple,
        ]
        if depth > 0:
            kinds += [self._object, self._array, self._tuple, self._choice, self._all]
            if self._defined:
                kinds.append(lambda _: {"$ref": "#/$defs/item"})
        return self._rng.choice(kinds)(depth - 1)

    def _object(self, depth: int) -> Schema:
        names = self._rng.sample(_NAMES, self._rng.randint(1, 4))
        return {
            "type": "object",
            "properties": {name: self._any(depth) for name in names},
            "required": [name for name in names if self._rng.random() < 0.7],
            "additionalProperties": False,
        }

    def _array(self, depth: int) -> Schema:
        least = self._rng.randint(0, 2)
        items = self._any(min(depth, 1))
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + self._rng.randint(0, 2)}

    def _tuple(self, depth: int) -> Schema:
        items = [self._any(min(depth, 1)) for _ in range(self._rng.randint(1, 3))]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}

    def _choice(self, depth: int) -> Schema:
        return {"anyOf": [self._any(min(depth, 1)) for _ in range(self._rng.randint(2, 3))]}

    def _all(self, depth: int) -> Schema:
        low = self._rng.randint(-100, 100)
        return {"allOf": [{"type": "integer", "minimum": low}, {"maximum": low + self._rng.randint(0, 1000)}]}

    def _string(self, _: int) -> Schema:
        least = self._rng.randint(0, 4)
        return {"type": "string", "minLength": least, "maxLength": least + self._rng.randint(0, 12)}

    def _text_of_a_form(self, _: int) -> Schema:
        if self._rng.random() < 0.5:
            return {"type": "string", "pattern": self._rng.choice(_PATTERNS)}
        return {"type": "string", "format": self._rng.choice(_FORMATS)}

    def _integer(self, _: int) -> Schema:
        low = self._rng.randint(-1000, 1000)
        key = self._rng.choice(("maximum", "exclusiveMaximum"))
        return {"type": "integer", "minimum": low, key: low + self._rng.randint(1, 5000)}

    def _number(self, _: int) -> Schema:
        low = round(self._rng.uniform(-50, 50), 2)
        return {"type": "number", "minimum": low, "maximum": round(low + self._rng.uniform(0.5, 100), 2)}

    def _enum(self, _: int) -> Schema:
        return {"enum": [*self._rng.sample(_WORDS, self._rng.randint(1, 4)), self._rng.choice((None, True, 7, 1.5))]}

    def _const(self, _: int) -> Schema:
        return {"const": self._rng.choice([*_WORDS, 42, False, None, [1, 2], {"a": "b"}])}

    def _simple(self, _: int) -> Schema:
        return {"type": self._rng.choice(["boolean", "null", ["boolean", "null"]])}
