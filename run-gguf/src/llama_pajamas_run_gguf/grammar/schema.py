"""JSON Schema as GBNF.

Every keyword that limits what is valid is either enforced or refused by name; what is written is always valid, though
not everything valid can be written (property order is the schema's, formats may be narrower). Dialect: 2020-12, with
the ``definitions``, tuple ``items`` and ``nullable`` of earlier ones.

Source: https://json-schema.org/draft/2020-12
"""

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_gguf.grammar import strings
from llama_pajamas_run_gguf.grammar.gbnf import MAX_REPEAT, SPACE, Rules, char_class, literal, repeat, separated
from llama_pajamas_run_gguf.grammar.merge import TYPES, kinds_of, merge
from llama_pajamas_run_gguf.grammar.numbers import INTEGER, NUMBER, integer_between, number_between

Schema = Mapping[str, Any] | bool

_NOTHING: Final = '""'
_MAX_NODES: Final = 4000
_MAX_TEXT: Final = 400_000

#: Keywords that limit values of a type and cannot be enforced by a grammar of reasonable size.
_REFUSED: Final = {
    "object": ("patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies"),
    "array": ("uniqueItems", "contains", "unevaluatedItems"),
    "number": ("multipleOf",),
    "integer": ("multipleOf",),
    "any": ("not", "if", "$dynamicRef", "$recursiveRef"),
}


def json_body(rules: Rules, schema: Mapping[str, Any] | None) -> str:
    """Add the rules of a JSON document to a grammar; returns the name of its rule.

    Args:
        rules: the grammar.
        schema: what the document must satisfy, or None for any object.

    Raises:
        BadInput: the schema is not valid, or nothing satisfies it.
        Unsupported: it uses a keyword that cannot be enforced; the message names it.
    """
    return Converter(rules, schema or {}).visit({"type": "object"} if schema is None else schema)


class Converter:
    """Adds the rules for schemas to a grammar.

    Args:
        rules: the grammar.
        root: the document in which ``$ref`` looks.
        param: the request's parameter, for error messages.
        lenient: whether keywords that cannot be enforced are passed over instead of refused.
    """

    def __init__(
        self, rules: Rules, root: Mapping[str, Any], *, param: str = "response_format", lenient: bool = False
    ) -> None:
        self._rules = rules
        self._root = root
        self._param = param
        self._lenient = lenient
        self._references: dict[str, str] = {}
        self._nodes = 0
        self._size = 0
        self._space = rules.add("space", SPACE)
        self._any: str | None = None

    def visit(self, schema: Schema, name: str = "json") -> str:
        """The rule for a schema; returns its name."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise Unsupported("The schema is too large to be enforced.", param=self._param)
        body = self._body(schema, name)
        self._size += len(body)
        if self._size > _MAX_TEXT:
            raise Unsupported("The schema is too large to be enforced.", param=self._param)
        return self._rules.add(name, body)

    def _body(self, schema: Schema, name: str) -> str:
        if schema is True or schema == {}:
            return self._value()
        if schema is False:
            raise BadInput("Nothing satisfies the schema.", param=self._param)
        if not isinstance(schema, Mapping):
            raise BadInput(f"A schema is an object or a boolean, not {schema!r}.", param=self._param)
        self._refuse(schema, "any")
        combined = self._combination(schema, name)
        if combined is not None:
            return combined
        if "const" in schema or "enum" in schema:
            return self._constants(schema)
        kinds = kinds_of(schema, self._param)
        if kinds is None:
            return self._value()
        return " | ".join(self._kind(kind, schema, name) for kind in kinds)

    def _combination(self, schema: Mapping[str, Any], name: str) -> str | None:
        if "$ref" in schema:
            return self._reference(schema, name)
        if "allOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self._body(merge([rest, *self._list(schema, "allOf")], self._resolve, self._param), name)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._any_of(schema, keyword, name)
        if schema.get("nullable") is True:
            rest = {key: value for key, value in schema.items() if key != "nullable"}
            return f'{self.visit(rest, name)} | "null"'
        return None

    def _kind(self, kind: str, schema: Mapping[str, Any], name: str) -> str:
        self._refuse(schema, kind)
        if kind == "null":
            return '"null"'
        if kind == "boolean":
            return '"true" | "false"'
        if kind in ("number", "integer"):
            return self._number(schema, whole=kind == "integer")
        if kind == "string":
            return self._string(schema)
        return self._array(schema, name) if kind == "array" else self._object(schema, name)

    # Combinations

    def _reference(self, schema: Mapping[str, Any], name: str) -> str:
        rest = {key: value for key, value in schema.items() if key not in ("$ref", *_ANNOTATIONS)}
        if rest:
            return self._body(merge([rest, {"$ref": schema["$ref"]}], self._resolve, self._param), name)
        pointer = schema["$ref"]
        if pointer not in self._references:
            target = self._resolve(pointer)
            rule = self._rules.reserve(str(pointer).rsplit("/", 1)[-1])
            self._references[pointer] = rule
            # The body is a rule of its own, so that one which is nothing but this reference again is seen here.
            body = self._body(target, rule)
            if body == rule:
                raise BadInput(f"$ref {pointer!r} refers to itself.", param=self._param)
            self._rules.define(rule, body)
        return self._references[pointer]

    def _resolve(self, pointer: Any) -> Schema:
        if not isinstance(pointer, str) or not pointer.startswith("#"):
            raise Unsupported(f"$ref {pointer!r}: only references within the schema are followed.", param=self._param)
        target: Any = self._root
        for part in pointer[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping) and key in target:
                target = target[key]
            elif (
                isinstance(target, Sequence)
                and not isinstance(target, str)
                and key.isdigit()
                and int(key) < len(target)
            ):
                target = target[int(key)]
            else:
                raise BadInput(f"$ref {pointer!r} leads nowhere.", param=self._param)
        if not isinstance(target, (Mapping, bool)):
            raise BadInput(f"$ref {pointer!r} leads to no schema.", param=self._param)
        return target

    def _any_of(self, schema: Mapping[str, Any], keyword: str, name: str) -> str:
        options = self._list(schema, keyword)
        rest = {key: value for key, value in schema.items() if key not in (keyword, *_ANNOTATIONS)}
        if rest:
            options = [merge([rest, option], self._resolve, self._param) for option in options]
        if keyword == "oneOf" and not self._exclusive(options):
            raise Unsupported(
                "oneOf whose alternatives may hold at the same time cannot be enforced.",
                hint="Use anyOf, or give each a property with a const of its own.",
                param=self._param,
            )
        possible = [option for option in options if option is not False]
        return " | ".join(self.visit(option, f"{name}-{index}") for index, option in enumerate(possible))

    def _exclusive(self, options: Sequence[Schema]) -> bool:
        """Whether no value satisfies two of the schemas, as far as types and constants tell."""
        merged = [merge([option], self._resolve, self._param) for option in options]
        return all(_disjoint(one, other, self._param) for index, one in enumerate(merged) for other in merged[:index])

    def _constants(self, schema: Mapping[str, Any]) -> str:
        values = [schema["const"]] if "const" in schema else self._list(schema, "enum")
        if "const" in schema and "enum" in schema:
            values = [value for value in values if value in schema["enum"]]
        kinds = kinds_of({"type": schema["type"]}, self._param) if "type" in schema else None
        fitting = [value for value in values if kinds is None or any(_is(value, kind) for kind in kinds)]
        if not fitting:
            raise BadInput("Nothing satisfies the schema: no value of its enum is of its type.", param=self._param)
        return " | ".join(literal(json.dumps(value, ensure_ascii=False)) for value in fitting)

    # Types

    def _value(self) -> str:
        """Any JSON value."""
        if self._any is not None:
            return self._any
        rules, space = self._rules, self._space
        string = rules.add("string", strings.STRING)
        number = rules.add("number", NUMBER)
        value, any_object, any_array = (rules.reserve(name) for name in ("value", "object", "array"))
        comma = f'"," {space}'
        members = separated(f'{string} {space} ":" {space} {value} {space}', comma, 0, None)
        items = separated(f"{value} {space}", comma, 0, None)
        rules.define(any_object, f'"{{" {space} {members} "}}"')
        rules.define(any_array, f'"[" {space} {items} "]"')
        rules.define(value, f'{any_object} | {any_array} | {string} | {number} | "true" | "false" | "null"')
        self._any = value
        return value

    def _string(self, schema: Mapping[str, Any]) -> str:
        least, most = self._count(schema, "minLength") or 0, self._count(schema, "maxLength")
        if most is not None and least > most:
            raise BadInput("Nothing satisfies the schema: minLength is more than maxLength.", param=self._param)
        given = [key for key in ("pattern", "format") if key in schema]
        if len(given) == 2 or (given and (least or most is not None)):
            together = " and ".join([*given, *(key for key in ("minLength", "maxLength") if key in schema)])
            raise Unsupported(f"{together} together cannot be enforced.", param=self._param)
        if given:
            value = schema[given[0]]
            if not isinstance(value, str):
                raise BadInput(f"{given[0]} is a string, not {value!r}.", param=self._param)
            return strings.matching_string(value) if given[0] == "pattern" else strings.formatted_string(value)
        if least or most is not None:
            return strings.sized_string(least, most)
        return self._rules.add("string", strings.STRING)

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> str:
        low, low_out = self._bound(schema, "minimum", "exclusiveMinimum", max)
        high, high_out = self._bound(schema, "maximum", "exclusiveMaximum", min)
        if low is None and high is None:
            return INTEGER if whole else NUMBER
        if whole:
            low = None if low is None else low + 1 if low_out and low == int(low) else low
            high = None if high is None else high - 1 if high_out and high == int(high) else high
            body = integer_between(low, high)
        else:
            body = number_between(low, high, low_excluded=low_out, high_excluded=high_out)
        if body is None:
            raise BadInput("Nothing satisfies the schema: its numbers' bounds exclude each other.", param=self._param)
        return body

    def _bound(self, schema: Mapping[str, Any], plain: str, exclusive: str, closer: Any) -> tuple[Decimal | None, bool]:
        limits: list[tuple[Decimal, bool]] = []
        for key, out in ((plain, False), (exclusive, True)):
            value = schema.get(key)
            if value is None or (out and value is False):
                continue
            if out and value is True:  # draft 4: a flag beside the plain bound
                limits = [(limit, True) for limit, _ in limits]
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise BadInput(f"{key} is a number, not {value!r}.", param=self._param)
            limits.append((Decimal(str(value)), out))
        if not limits:
            return None, False
        nearest = closer(limit for limit, _ in limits)
        return nearest, any(out for limit, out in limits if limit == nearest)

    def _array(self, schema: Mapping[str, Any], name: str) -> str:
        space = self._space
        least, most = self._count(schema, "minItems") or 0, self._count(schema, "maxItems")
        if most is not None and least > most:
            raise BadInput("Nothing satisfies the schema: minItems is more than maxItems.", param=self._param)
        if least > MAX_REPEAT:
            raise Unsupported(f"minItems of more than {MAX_REPEAT} cannot be enforced.", param=self._param)
        items = schema.get("items", True)
        first: Sequence[Schema] = schema.get("prefixItems", ())
        if isinstance(items, Sequence):  # a tuple before 2020-12
            first, items = items, schema.get("additionalItems", True)
        fixed = [self.visit(item, f"{name}-{index}") + " " + space for index, item in enumerate(first[:most])]
        # A tuple is written in full; more than it lists only where more is asked for.
        wanted = max(least - len(fixed), 0)
        allowed = None if most is None else min(most - len(fixed), MAX_REPEAT)
        if items is False or (fixed and "items" not in schema and not wanted):
            if wanted:
                raise BadInput("Nothing satisfies the schema: minItems is more than its tuple has.", param=self._param)
            allowed = 0
        comma = f'"," {space}'
        if not fixed:
            body = (
                '""'
                if allowed == 0
                else separated(f"{self.visit(items, name + '-item')} {space}", comma, wanted, allowed)
            )
        else:
            body = f" {comma} ".join(fixed)
            if allowed != 0:
                body += " " + repeat(f"({comma} {self.visit(items, name + '-item')} {space})", wanted, allowed)
        return f'"[" {space} {body} "]"'

    def _object(self, schema: Mapping[str, Any], name: str) -> str:
        properties = schema.get("properties", {})
        if not isinstance(properties, Mapping):
            raise BadInput(f"properties is an object, not {properties!r}.", param=self._param)
        required = schema.get("required", ())
        if (
            isinstance(required, str)
            or not isinstance(required, Sequence)
            or not all(isinstance(r, str) for r in required)
        ):
            raise BadInput(f"required is a list of names, not {required!r}.", param=self._param)
        extra = schema.get("additionalProperties", schema.get("unevaluatedProperties", not properties))
        unlisted = [key for key in required if key not in properties]
        if unlisted and extra is False and "additionalProperties" in schema:
            raise BadInput(
                f"Nothing satisfies the schema: {unlisted[0]!r} is required but not allowed.", param=self._param
            )
        listed = {**properties, **{key: True if isinstance(extra, bool) else extra for key in unlisted}}
        members = []
        for key, value in listed.items():
            if value is False and key not in required:
                continue
            rule = self.visit(value, f"{name}-{key}")
            text = (
                f'{literal(json.dumps(key, ensure_ascii=False))} {self._space} ":" {self._space} {rule} {self._space}'
            )
            members.append((self._rules.add(f"{name}-{key}-member", text), key in required))
        more = None if extra is False else self._more(extra, list(listed), name)
        self._check_counts(schema, members, more is not None)
        body = self._members(members, more, schema, name)
        return f'"{{" {self._space} {body} "}}"'

    def _members(self, members: list[tuple[str, bool]], more: str | None, schema: Mapping[str, Any], name: str) -> str:
        """Members in order, optional ones or not, with commas only between those that are there."""
        comma = f'"," {self._space}'
        if not members:
            if more is None:
                return '""'
            return separated(
                more, comma, self._count(schema, "minProperties") or 0, self._count(schema, "maxProperties")
            )
        after = f"({comma} {more})*" if more else _NOTHING
        first = separated(more, comma, 0, None) if more else _NOTHING
        # From the last member to the first: what may follow once something was written, and what while nothing was.
        for index, (member, required) in reversed(list(enumerate(members))):
            rest = self._rules.add(f"{name}-after-{index}", after) if after != _NOTHING else ""
            start = f"{member} {rest}".strip()
            follow = f"{comma} {start}"
            first = start if required else f"({start} | {first})"
            after = follow if required else f"({follow} | {rest or _NOTHING})"
        return first

    def _more(self, schema: Schema, taken: list[str], name: str) -> str:
        """A member whose name is none of those that are taken."""
        key = self._name_except(taken, name) if taken else self._rules.add("string", strings.STRING)
        value = self.visit(schema, f"{name}-more")
        return self._rules.add(f"{name}-more-member", f'{key} {self._space} ":" {self._space} {value} {self._space}')

    def _name_except(self, taken: list[str], name: str) -> str:
        """Names other than these, as a walk along their letters that leaves it somewhere."""

        def walk(prefix: str, names: set[str]) -> str:
            letters = sorted({other[len(prefix)] for other in names if len(other) > len(prefix)})
            plain = [
                letter for letter in letters if letter not in '"\\' and ord(letter) >= 0x20 and ord(letter) != 0x7F
            ]
            barred = char_class("".join(plain), negate=True)[:-1].replace("[^", '[^"\\\\\\x7F\\x00-\\x1F', 1) + "]"
            parts = [f"{barred} {strings.PLAIN}*"]
            if prefix and prefix not in names:
                parts.append('""')
            for letter in plain:
                step = prefix + letter
                rest = walk(step, {other for other in names if other.startswith(step)})
                parts.append(f"{literal(letter)} {rest}")
            return self._rules.add(f"{name}-not", " | ".join(parts))

        return self._rules.add(f"{name}-name", f'"\\"" {walk("", set(taken))} "\\""')

    # Checks

    def _check_counts(self, schema: Mapping[str, Any], members: list[tuple[str, bool]], open_ended: bool) -> None:
        least, most = self._count(schema, "minProperties") or 0, self._count(schema, "maxProperties")
        always = sum(required for _, required in members)
        if least > max(always, 0 if members else 1):
            raise Unsupported("minProperties beyond the required ones cannot be enforced.", param=self._param)
        if most is not None and members and (open_ended or most < len(members)):
            raise Unsupported("maxProperties beside properties cannot be enforced.", param=self._param)

    def _refuse(self, schema: Mapping[str, Any], kind: str) -> None:
        if self._lenient:
            return
        for keyword in _REFUSED.get(kind, ()):
            value = schema.get(keyword, None)
            if value is None or value is False or value == {}:
                continue
            if keyword == "multipleOf" and kind == "integer" and value == 1:
                continue
            raise Unsupported(f"The schema's keyword {keyword!r} cannot be enforced.", param=self._param)

    def _count(self, schema: Mapping[str, Any], key: str) -> int | None:
        value = schema.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value != int(value):
            raise BadInput(f"{key} is a number of things, not {value!r}.", param=self._param)
        return int(value)

    def _list(self, schema: Mapping[str, Any], key: str) -> list[Any]:
        value = schema[key]
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise BadInput(f"{key} is a list with something in it, not {value!r}.", param=self._param)
        return list(value)


#: Keywords that say something about a schema and limit nothing.
_ANNOTATIONS: Final = (
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment",
    "$schema", "$id", "$anchor", "$defs", "definitions", "strict",
)  # fmt: skip


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and kind == "integer":
        return value.is_integer()
    return isinstance(value, TYPES[kind])


def _disjoint(one: Schema, other: Schema, param: str) -> bool:
    if one is False or other is False:
        return True
    if one is True or other is True:
        return False
    values, others = _values(one), _values(other)
    if values is not None and others is not None:
        return not any(value == candidate for value in values for candidate in others)
    kinds, other_kinds = kinds_of(one, param), kinds_of(other, param)
    if kinds is None or other_kinds is None:
        return False
    common = set(kinds) & set(other_kinds)
    if {"number", "integer"} <= set(kinds) | set(other_kinds):
        common.add("number")
    if not common:
        return True
    if common != {"object"}:
        return False
    # Objects told apart by a property that both require, with different constants.
    shared = set(one.get("required", ())) & set(other.get("required", ()))
    return any(
        _disjoint(one["properties"][key], other["properties"][key], param)
        for key in shared
        if key in one.get("properties", {}) and key in other.get("properties", {})
    )


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None
