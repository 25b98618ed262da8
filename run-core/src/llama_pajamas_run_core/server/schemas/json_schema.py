"""Whether a client's JSON Schema is one at all: what a grammar compiler is given must not be nonsense."""

from collections.abc import Iterator, Mapping
from typing import Any

_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_DEEPEST = 64


def check_schema(schema: Any) -> dict[str, Any]:
    """The schema itself.

    Raises:
        ValueError: it is not a JSON Schema; the message says where and why.
    """
    if not isinstance(schema, dict):
        raise ValueError("a JSON Schema is an object")
    _check(schema, schema, "", 0)
    return schema


def _check(schema: Any, root: Mapping[str, Any], where: str, depth: int) -> None:
    at = f" at {where[1:]}" if where else ""
    if depth > _DEEPEST:
        raise ValueError(f"the schema is nested more than {_DEEPEST} deep")
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"a schema is an object or a boolean{at}")
    _check_keywords(schema, at)
    _check_reference(schema.get("$ref"), root, at)
    for name, inner in _inner(schema, at):
        _check(inner, root, f"{where}.{name}", depth + 1)


def _check_keywords(schema: Mapping[str, Any], at: str) -> None:
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in _TYPES:
            raise ValueError(f"there is no JSON type {str(name)[:40]!r}{at}")
    if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        raise ValueError(f"'enum' is a list of what may be{at}")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise ValueError(f"'required' is a list of names{at}")


def _inner(schema: Mapping[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """The schemas within a schema, each with its place."""
    for key in _MAPS:
        members = schema.get(key, {})
        if not isinstance(members, dict):
            raise ValueError(f"'{key}' is an object{at}")
        yield from ((f"{key}.{name}", inner) for name, inner in members.items())
    for key in _LISTS:
        listed = schema.get(key, [])
        if not isinstance(listed, list):
            raise ValueError(f"'{key}' is a list{at}")
        yield from ((f"{key}[{index}]", inner) for index, inner in enumerate(listed))
    yield from ((key, schema[key]) for key in _SINGLE if key in schema)


def _check_reference(reference: Any, root: Mapping[str, Any], at: str) -> None:
    if reference is None:
        return
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise ValueError(f"'$ref' points within the schema, as #/$defs/NAME{at}")
    found: Any = root
    for step in reference.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdecimal() and len(step) < 9 and int(step) < len(found):
            found = found[int(step)]
        else:
            raise ValueError(f"'$ref' points at nothing: {reference[:100]}{at}")
