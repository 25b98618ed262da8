"""Several schemas that hold at the same time, as one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from llama_pajamas_run_core.errors import BadInput, Unsupported

Schema = Mapping[str, Any] | bool

#: JSON's types, with what Python reads them as.
TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list, tuple),
    "object": (dict,),
}

#: Keywords by which a schema without "type" tells what it is about.
_TELLING: Final = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_MAX_DEPTH: Final = 32

_LARGEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SMALLEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def kinds_of(schema: Mapping[str, Any], param: str) -> list[str] | None:
    """The JSON types that a schema allows, or None for all.

    A schema without "type" but with keywords of one type is taken to mean that type, as its writer does.

    Raises:
        BadInput: a type does not exist.
    """
    asked = schema.get("type")
    if asked is None:
        told = [kind for kind, keywords in _TELLING.items() if any(keyword in schema for keyword in keywords)]
        return told or None
    kinds = [asked] if isinstance(asked, str) else asked
    if not isinstance(kinds, Sequence) or not kinds or not all(isinstance(k, str) and k in TYPES for k in kinds):
        raise BadInput(f"{asked!r} is no JSON Schema type; types are {', '.join(TYPES)}.", param=param)
    if "number" in kinds:
        kinds = [kind for kind in kinds if kind != "integer"]
    return list(dict.fromkeys(kinds))


def merge(schemas: Sequence[Schema], resolve: Callable[[Any], Schema], param: str, depth: int = 0) -> Schema:
    """One schema that allows what all of them allow.

    Args:
        schemas: to be merged; references and ``allOf`` in them are followed.
        resolve: finds the target of a ``$ref``.
        param: the request's parameter, for error messages.
        depth: how many references were followed so far.

    Raises:
        Unsupported: the keywords of two schemas cannot be merged.
    """
    if depth > _MAX_DEPTH:
        raise Unsupported("A schema that refers to itself through allOf cannot be enforced.", param=param)
    result: dict[str, Any] = {}
    for schema in schemas:
        plain = _flat(schema, resolve, param, depth)
        if plain is None:
            return False
        plain = _barred(plain, result)
        for key, value in plain.items():
            result[key] = _join(key, result[key], value, resolve, param, depth) if key in result else value
        result = {**_barred(result, plain)}
    return result


def _flat(schema: Schema, resolve: Callable[[Any], Schema], param: str, depth: int) -> Mapping[str, Any] | None:
    """A schema without references and ``allOf``; None where it allows nothing."""
    if isinstance(schema, bool):
        return {} if schema else None
    if not isinstance(schema, Mapping):
        raise BadInput(f"A schema is an object or a boolean, not {schema!r}.", param=param)
    if "$ref" not in schema and "allOf" not in schema:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
    inner = [resolve(schema["$ref"])] if "$ref" in schema else []
    merged = merge([*inner, *schema.get("allOf", ()), rest], resolve, param, depth + 1)
    return None if merged is False else {} if merged is True else merged


def _barred(schema: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without the properties that another one, which allows no further ones, does not list."""
    if other.get("additionalProperties") is not False or "properties" not in schema:
        return schema
    allowed = other.get("properties", {})
    properties = {key: value if key in allowed else False for key, value in schema["properties"].items()}
    return {**schema, "properties": properties}


def _join(key: str, one: Any, other: Any, resolve: Callable[[Any], Schema], param: str, depth: int) -> Any:
    if one == other:
        return one
    if key == "type":
        return _common_types(one, other, param)
    if key == "enum":
        return [value for value in one if value in other]
    if key == "required":
        return list(dict.fromkeys([*one, *other]))
    if key == "properties":
        return {
            **one,
            **{
                name: merge([one[name], value], resolve, param, depth + 1) if name in one else value
                for name, value in other.items()
            },
        }
    if (
        key in ("items", "additionalProperties")
        and isinstance(one, (Mapping, bool))
        and isinstance(other, (Mapping, bool))
    ):
        return merge([one, other], resolve, param, depth + 1)
    if key in _LARGEST:
        return max(one, other)
    if key in _SMALLEST:
        return min(one, other)
    if key in ("anyOf", "oneOf", "const", "pattern", "format", "prefixItems", "not", "if", "multipleOf", "contains"):
        raise Unsupported(f"Two different {key!r} at the same time cannot be enforced.", param=param)
    return other


def _common_types(one: Any, other: Any, param: str) -> list[str]:
    first, second = kinds_of({"type": one}, param) or [], kinds_of({"type": other}, param) or []
    common = [kind for kind in first if kind in second]
    if "integer" in first + second and "number" in first + second:
        common.append("integer")
    if not common:
        raise BadInput(f"Nothing satisfies the schema: it must be {one} and {other} at once.", param=param)
    return common
