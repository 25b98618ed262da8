"""JSON Schema as grammars: what they take, what they refuse, and what models write under them."""

import json
import random

import jsonschema
import pytest

from llama_pajamas_run_core.errors import BadInput, InferenceError, PajamasError, Unsupported
from llama_pajamas_run_core.types.chat import JsonFormat

pytest.importorskip("llama_cpp")

from llama_pajamas_run_gguf.chat.plan import plan_text
from llama_pajamas_run_gguf.engine.sampling import Candidates, Grammar


@pytest.fixture
def takes(load):
    """Whether a schema's grammar takes a text as a whole."""
    backend = load()

    def check(schema, text: str) -> bool:
        plan = plan_text(JsonFormat(schema))
        return backend._ready().run(lambda: follow(backend, plan.grammar, text))

    return check


def follow(backend, grammar_text: str, text: str) -> bool:
    grammar = Grammar(backend._session.vocab, grammar_text, backend._tokenizer)
    candidates = Candidates(1)
    try:
        tokens = backend._tokenizer.encode(text, special=False, add_special=False)
        return all(grammar.accept(token, candidates) for token in tokens) and grammar.takes(
            backend._tokenizer.eos, candidates
        )
    finally:
        grammar.close()


def obj(properties=None, *, required=(), **more):
    return {"type": "object", "properties": properties or {}, "required": list(required), **more}


CASES = {
    "any object": (
        None,
        ["{}", '{"a": [1, "x", null, {"b": true}]}', "{ }"],
        ["[]", "1", '{"a"}', '{"a": 01}', "{'a': 1}"],
    ),
    "string lengths": (
        {"type": "string", "minLength": 2, "maxLength": 3},
        ['"ab"', '"äöü"', '"\\n\\u00e9"'],
        ['"a"', '"abcd"', '"\\ud800x"'],
    ),
    "enum": ({"enum": ["a", 1, None, {"k": [1]}]}, ['"a"', "1", "null", '{"k": [1]}'], ['"b"', "2"]),
    "enum of a type": ({"type": "string", "enum": ["a", 1]}, ['"a"'], ["1"]),
    "const": ({"const": 'x"y'}, ['"x\\"y"'], ['"x"']),
    "integer": ({"type": "integer"}, ["0", "-5", "123456"], ["1.5", "01", "+1", "-"]),
    "integer from": ({"type": "integer", "minimum": 13}, ["13", "99", "100", "5000"], ["12", "0", "-13", "9"]),
    "integer to": ({"type": "integer", "maximum": -3}, ["-3", "-30", "-4"], ["-2", "0", "3"]),
    "integer between": (
        {"type": "integer", "minimum": -15, "exclusiveMaximum": 120},
        ["-15", "-9", "0", "7", "119"],
        ["-16", "120", "200"],
    ),
    "number between": (
        {"type": "number", "minimum": 0.5, "maximum": 2.25},
        ["0.5", "0.75", "1", "2", "2.25", "2.2"],
        ["0.4", "0.49", "2.26", "2.3", "3", "-1"],
    ),
    "number above": ({"type": "number", "exclusiveMinimum": 1}, ["1.01", "2", "17.5"], ["1", "1.0", "0.9", "-2"]),
    "number below zero": ({"type": "number", "exclusiveMaximum": 0}, ["-0.1", "-17"], ["0", "1", "0.1"]),
    "required order": (
        obj({"a": {"type": "integer"}, "b": {"type": "integer"}}, required=["b"]),
        ['{"a": 1, "b": 2}', '{"b": 2}'],
        ['{"a": 1}', '{"b": 2, "a": 1}', "{}", '{"b": 2, "c": 3}'],
    ),
    "all optional": (
        obj({"a": {"type": "null"}, "b": {"type": "null"}}),
        ["{}", '{"a": null}', '{"b": null}', '{"a": null, "b": null}'],
        ['{"a": null,}', '{, "b": null}'],
    ),
    "further properties": (
        obj({"ab": {"type": "null"}}, additionalProperties={"type": "integer"}),
        ['{"ab": null, "x": 1}', '{"a": 1, "abc": 2}'],
        ['{"ab": 1}', '{"x": "y"}', '{"ab": null, "ab": 1}'],
    ),
    "required elsewhere": (obj({}, required=["z"], additionalProperties=True), ['{"z": 1}'], ["{}"]),
    "map": (
        {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1},
        ['{"x": true}'],
        ["{}", '{"x": 1}'],
    ),
    "array": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        ["[1]", "[1, 2]"],
        ["[]", "[1,2,3]", '["x"]'],
    ),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        ['[1, "a"]'],
        ["[1]", '["a", 1]', '[1, "a", 2]'],
    ),
    "tuple and more": (
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
        ["[1]", '[1, "a", "b"]'],
        ["[]", "[1, 2]"],
    ),
    "types": ({"type": ["string", "null"], "maxLength": 1}, ['"a"', "null"], ['"ab"', "1"]),
    "nullable": ({"type": "integer", "nullable": True}, ["1", "null"], ["true"]),
    "anyOf": ({"anyOf": [{"type": "integer"}, {"const": "x"}]}, ["1", '"x"'], ['"y"', "null"]),
    "anyOf with more": (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "anyOf": [{"required": ["a"]}, {"properties": {"b": {"type": "null"}}, "required": ["b"]}],
        },
        ['{"a": 1}', '{"b": null}', '{"a": 1, "b": null}'],
        ["{}"],
    ),
    "oneOf told apart": (
        {
            "oneOf": [
                obj({"t": {"const": "a"}, "x": {"type": "integer"}}, required=["t", "x"]),
                obj({"t": {"const": "b"}}, required=["t"]),
            ]
        },
        ['{"t": "a", "x": 1}', '{"t": "b"}'],
        ['{"t": "a"}', '{"t": "c"}'],
    ),
    "allOf": (
        {
            "allOf": [
                obj({"a": {"type": "integer", "minimum": 0}}, required=["a"]),
                obj({"a": {"maximum": 5}, "b": {"type": "null"}}),
            ]
        },
        ['{"a": 5}', '{"a": 0, "b": null}'],
        ['{"a": 6}', '{"b": null}'],
    ),
    "reference": (
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer", "maximum": 9, "minimum": 0}}},
        ["7"],
        ["10"],
    ),
    "recursion": (
        {
            "$defs": {
                "t": obj(
                    {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}]}},
                    required=["v", "next"],
                )
            },
            "$ref": "#/$defs/t",
        },
        ['{"v": 1, "next": {"v": 2, "next": null}}'],
        ['{"v": 1, "next": {"v": 2}}'],
    ),
    "pattern": (
        {"type": "string", "pattern": r"^[A-Z]{2}-\d+(a|b)?$"},
        ['"AB-12"', '"XY-1b"'],
        ['"A-1"', '"AB-"', '"AB-1c"'],
    ),
    "pattern without anchors": ({"type": "string", "pattern": "ab"}, ['"ab"', '"xxabyy"'], ['"ba"']),
    "pattern with quotes": ({"type": "string", "pattern": r'^["\\/]+$'}, ['"\\"\\\\/"'], ['"a"']),
    "date": (
        {"type": "string", "format": "date"},
        ['"2024-02-28"', '"1999-12-31"'],
        ['"2023-02-30"', '"2024-13-01"', '"24-01-01"'],
    ),
    "date-time": ({"type": "string", "format": "date-time"}, ['"2024-02-28T07:05:00Z"'], ['"2024-02-28"']),
    "uuid": ({"type": "string", "format": "uuid"}, ['"01234567-89ab-cdef-0123-456789abcdef"'], ['"0123"']),
    "no type but properties": (
        {"properties": {"a": {"type": "null"}}, "required": ["a"]},
        ['{"a": null}'],
        ["1", "{}"],
    ),
    "annotations": ({"type": "null", "title": "t", "description": "d", "default": None, "x-more": 1}, ["null"], ["1"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_grammar_takes_what_is_valid_and_nothing_else(takes, name: str) -> None:
    schema, valid, invalid = CASES[name]
    for text in valid:
        if schema is not None:
            jsonschema.validate(json.loads(text), {**schema, "nullable": None} if "nullable" not in schema else {})
        assert takes(schema, text), text
    for text in invalid:
        assert not takes(schema, text), text


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"if": {"type": "string"}, "then": {}}, "if"),
        (obj(patternProperties={"^x": {}}), "patternProperties"),
        (obj(propertyNames={"pattern": "^x"}), "propertyNames"),
        (obj(dependentRequired={"a": ["b"]}), "dependentRequired"),
        (obj({"a": {}, "b": {}}, minProperties=2), "minProperties"),
        (obj({"a": {}, "b": {}}, maxProperties=1), "maxProperties"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"const": 1}}, "contains"),
        ({"type": "integer", "multipleOf": 3}, "multipleOf"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "string", "format": "iri-reference"}, "iri-reference"),
        ({"type": "string", "pattern": "^a", "maxLength": 3}, "pattern and maxLength"),
        ({"type": "string", "pattern": "(?=a)b"}, "Look-around"),
        ({"type": "string", "pattern": r"(a)\1"}, r"\\1"),
        ({"type": "string", "minLength": 100_000}, "minLength"),
        ({"$ref": "https://example.com/schema.json"}, "example.com"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(load, schema, keyword: str) -> None:
    with pytest.raises(Unsupported, match=keyword):
        load().generate("hello", response_format=JsonFormat(schema))


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "strnig"}, "strnig"),
        ({"type": 5}, "5"),
        (obj({"a": 5}), "5"),
        ({"type": "object", "properties": []}, "properties"),
        ({"type": "object", "required": "a"}, "required"),
        ({"type": "array", "minItems": -1}, "minItems"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
        ({"type": "integer", "minimum": "a"}, "minimum"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "bounds"),
        ({"enum": []}, "enum"),
        ({"anyOf": "x"}, "anyOf"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "#"}, "itself"),
        ({"type": "string", "pattern": "(a"}, "regular expression"),
        ({"type": "string", "pattern": "*"}, "regular expression"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "at once"),
        (obj({"a": False}, required=["a"]), "Nothing satisfies"),
    ],
)
def test_what_is_no_schema_is_an_error(load, schema, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        load().generate("hello", response_format=JsonFormat(schema))


def test_a_huge_schema_is_refused_in_time(load) -> None:
    wide = obj({f"property_{number}": {"type": "string"} for number in range(5000)})
    with pytest.raises(PajamasError, match="too large"):
        load().generate("hello", response_format=JsonFormat(wide))


def test_a_hundred_random_schemas_are_all_satisfied(load) -> None:
    backend = load(n_ctx=1024, n_lanes=8)
    draw = random.Random(20)
    schemas = [_random_schema(draw, 3) for _ in range(100)]
    options = {"max_tokens": 500, "temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    streams = [
        backend.stream("Answer.", response_format=JsonFormat(schema), seed=number, **options)
        for number, schema in enumerate(schemas)
    ]
    complete = 0
    for schema, stream in zip(schemas, streams, strict=True):
        answer = stream.result()
        if answer.finish_reason == "length":  # a random model does not know when to stop inside a string
            continue
        complete += 1
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(answer.text))
    assert complete >= 85


def test_a_grammar_without_a_way_on_is_an_error(load) -> None:
    backend = load()
    # Every token that could open the object is forbidden.
    opening = [number for number in range(600) if backend._tokenizer.piece(number).lstrip(b" \n").startswith(b"{")]
    blank = [number for number in range(600) if not backend._tokenizer.piece(number).strip()]
    barred = dict.fromkeys([*opening, *blank], -100.0)
    answer = backend.generate("hello", response_format=JsonFormat(), max_tokens=8, temperature=0.0, logit_bias=barred)
    assert answer.text.lstrip().startswith("{")  # a bias of -100 is strong, the grammar is stronger
    with pytest.raises(InferenceError, match="format"):
        backend._ready().run(lambda: _starve(backend))
    assert backend.generate("hello", max_tokens=2).usage.completion_tokens


def _starve(backend) -> None:
    import numpy as np

    from llama_pajamas_run_core.language.sampling import SamplingSettings
    from llama_pajamas_run_core.types.chat import GenerationOptions
    from llama_pajamas_run_gguf.engine.sampling import Sampler

    settings = SamplingSettings().resolve(GenerationOptions(temperature=0.0))
    sampler = Sampler(settings, tokenizer=backend._tokenizer, prompt=(), context=16, vocab=backend._session.vocab)
    sampler.constrain('root ::= "{}"\n')
    try:
        logits = np.full(backend._tokenizer.size, -np.inf, np.float32)
        sampler._sample_constrained(sampler.grammar, logits, Candidates(backend._tokenizer.size))
    finally:
        sampler.close()


def _random_schema(draw: random.Random, depth: int) -> dict:
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "format", "pattern"]
    kind = draw.choice(kinds + ["object", "object", "object", "array", "anyOf", "allOf"] * (depth > 0))
    match kind:
        case "object":
            names = draw.sample(["a", "ab", "abc", "name", 'na"me', "größe", "x y", "\\", "id"], draw.randint(0, 4))
            required = draw.sample(names, draw.randint(0, len(names)))
            schema = obj({name: _random_schema(draw, depth - 1) for name in names}, required=required)
            extra = draw.choice([None, False, _random_schema(draw, 0)])
            return schema if extra is None else {**schema, "additionalProperties": extra}
        case "array":
            least = draw.randint(0, 2)
            items = _random_schema(draw, depth - 1)
            return {"type": "array", "items": items, "minItems": least, "maxItems": least + draw.randint(0, 3)}
        case "string":
            least = draw.randint(0, 4)
            return {"type": "string", "minLength": least, "maxLength": least + draw.randint(0, 6)}
        case "integer" | "number":
            low = draw.choice([0, -7, 0.5, 99, -12.25])
            keys = draw.choice([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")])
            return {"type": kind, keys[0]: low, keys[1]: low + draw.choice([2, 10.75, 1000])}
        case "enum":
            return {"enum": draw.sample([1, "x", None, True, 2.5, {"k": [1]}, 'a"b\n', "ü"], 3)}
        case "format":
            names = ["date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "hostname", "duration", "uri"]
            return {"type": "string", "format": draw.choice(names)}
        case "pattern":
            return {"type": "string", "pattern": draw.choice([r"^\d{3}-\w$", "^(foo|bar)+x?$", "^[^a-z]{1,3}$"])}
        case "anyOf":
            return {"anyOf": [_random_schema(draw, depth - 1) for _ in range(2)]}
        case "allOf":
            return {"allOf": [obj({"p": _random_schema(draw, 0)}, required=["p"]), obj({"q": {"type": "null"}})]}
        case _:
            return {"type": kind}
