"""Jinja for templates that came with a downloaded file: sandboxed, and stopped when they take too long or too much.

The conventions (blocks trimmed, ``tojson`` without HTML escapes, ``raise_exception``, ``strftime_now``, loop controls
and generation blocks) are those of Hugging Face's ``apply_chat_template``, for which models' templates are written.
"""

import json
import time
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llama_pajamas_run_core.errors import BadInput, LoadError

#: Seconds that a rendering may take, and characters that it may have.
MAX_SECONDS = 5.0
MAX_CHARACTERS = 16_000_000
_MAX_TEMPLATE = 1_000_000
_TICK = "_tick"
_JOIN = "_join"


class TemplateRefusal(Exception):
    """The template itself refused the conversation, through ``raise_exception``."""


class _Limits:
    """One rendering's clock and scale."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + MAX_SECONDS
        self._left = MAX_CHARACTERS

    def tick(self) -> str:
        if time.monotonic() > self._deadline:
            raise SecurityError(f"it takes longer than {MAX_SECONDS:.0f} seconds")
        return ""

    def join(self, *parts: Any) -> str:
        """The ``~`` operator, which could double a string again and again."""
        self.tick()
        texts = [str(part) for part in parts]
        self.weigh(sum(len(text) for text in texts))
        return "".join(texts)

    def weigh(self, size: int) -> None:
        if size > self._left:
            raise SecurityError(f"it makes more than {MAX_CHARACTERS:,} characters")


class _Environment(ImmutableSandboxedEnvironment):
    """Every loop, macro and call looks at the clock; every operator that makes text larger looks at its size."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            assert isinstance(block, (nodes.For, nodes.Macro, nodes.CallBlock))
            block.body.insert(0, nodes.ExprStmt(_call(_TICK), lineno=block.lineno))
        _replace_joins(tree)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Lists may grow and shrink, as some templates want; all they can reach was made for this rendering."""
        return (isinstance(obj, list) and attr in ("append", "pop")) or super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _limits(context).tick()
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        limits = _limits(context)
        limits.tick()
        if operator == "*":
            for text, count in ((left, right), (right, left)):
                if isinstance(count, int) and hasattr(text, "__len__"):
                    limits.weigh(len(text) * max(count, 0))
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            limits.weigh(len(left) + len(right))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > 1024:
            raise SecurityError("it raises to a high power")
        elif operator == "%" and isinstance(left, str):
            raise SecurityError("it formats text with %")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """``{% generation %}``, by which training templates mark the assistant's words; it changes nothing here."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(source: str, origin: str) -> "Template":
    """Prepare a template.

    Args:
        source: Jinja.
        origin: where it is from, for error messages.

    Raises:
        LoadError: it is not valid, or absurdly long.
    """
    if len(source) > _MAX_TEMPLATE:
        raise LoadError(f"The chat template of {origin} has {len(source):,} characters.")
    try:
        return Template(_ENVIRONMENT.from_string(source), origin)
    except (jinja2.TemplateError, RecursionError) as error:
        raise LoadError(
            f"The chat template of {origin} is not valid: {error}", hint="Give one with chat_template=..."
        ) from error


class Template:
    """A compiled template."""

    def __init__(self, template: jinja2.Template, origin: str) -> None:
        self._template = template
        self._origin = origin

    def render(self, **values: Any) -> str:
        """Fill it in.

        Raises:
            TemplateRefusal: the template refused the conversation.
            BadInput: it failed in another way, took too long or grew too large.
        """
        limits = _Limits()
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(
                **values, **{_TICK: limits.tick, _JOIN: limits.join, "_limits": limits}
            ):
                size += len(piece)
                limits.weigh(size)
                limits.tick()
                pieces.append(piece)
        except TemplateRefusal:
            raise
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            KeyError,
            ArithmeticError,
            RecursionError,
            MemoryError,
        ) as error:
            raise BadInput(
                f"The chat template of {self._origin} could not render this conversation: {error}.", param="messages"
            ) from error
        return "".join(pieces)


def _limits(context: Any) -> _Limits:
    limits = context.get("_limits")
    return limits if isinstance(limits, _Limits) else _Limits()


def _call(name: str, arguments: list[nodes.Expr] | None = None) -> nodes.Call:
    return nodes.Call(nodes.Name(name, "load"), arguments or [], [], None, None)


def _replace_joins(node: nodes.Node) -> None:
    """Put calls of :meth:`_Limits.join` in the place of all ``~`` operators."""
    for name, value in node.iter_fields():
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, nodes.Node):
                    _replace_joins(item)
                    if isinstance(item, nodes.Concat):
                        value[index] = _call(_JOIN, item.nodes).set_lineno(item.lineno)
        elif isinstance(value, nodes.Node):
            _replace_joins(value)
            if isinstance(value, nodes.Concat):
                setattr(node, name, _call(_JOIN, value.nodes).set_lineno(value.lineno))


def _raise_exception(message: str) -> None:
    raise TemplateRefusal(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=list
    )


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag], autoescape=False
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


_ENVIRONMENT = _environment()
