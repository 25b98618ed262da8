"""Tool calls in what a model writes, told from plain text as it streams.

Every family of models marks its calls in its own way. What looked like a call and turns out not to be one is given
back as the text it is; of a call nothing but the call is shown.
"""

import ast
import json
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from llama_pajamas_run_core.text.json_scanner import JsonScanner
from llama_pajamas_run_core.text.stops import overlap
from llama_pajamas_run_core.types.chat import ToolCallDelta


class ToolStyle(StrEnum):
    """How a family of models writes tool calls."""

    #: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``: Hermes, Qwen and many more.
    HERMES = "hermes"
    #: ``[TOOL_CALLS][{"name": ..., "arguments": {...}}]`` or ``[TOOL_CALLS]name[ARGS]{...}``: Mistral.
    MISTRAL = "mistral"
    #: ``{"name": ..., "parameters": {...}}`` alone or behind ``<|python_tag|>``: Llama 3; also what a model does that
    #: was told to answer in JSON.
    LLAMA = "llama"
    #: Fenced code: ``tool_code`` with Python calls, or ``json`` with the same object: Gemma.
    GEMMA = "gemma"


def style_of(template: str) -> ToolStyle:
    """The style of a model, by what its chat template contains; bare JSON where it contains no markup."""
    for text, style in (
        ("<tool_call>", ToolStyle.HERMES),
        ("[TOOL_CALLS]", ToolStyle.MISTRAL),
        ("<|python_tag|>", ToolStyle.LLAMA),
        ("ipython", ToolStyle.LLAMA),
        ("tool_code", ToolStyle.GEMMA),
        ("<start_of_turn>", ToolStyle.GEMMA),
    ):
        if text in template:
            return style
    return ToolStyle.LLAMA


class ToolCallSplitter:
    """Splits a streamed answer into plain text and tool calls.

    Args:
        style: how the model writes its calls.
        names: the tools there are; a call of any other is plain text. None: any name is one.
    """

    def __init__(self, style: ToolStyle, names: Collection[str] | None = None) -> None:
        self._markup = _MARKUP[style]
        self._names = None if names is None else frozenset(names)
        self._held = ""  # the beginning of what could be markup
        self._raw = ""  # the call that is being read, for when it turns out to be none
        self._plain = 0  # how much of it cannot begin a call again
        self._body: _Body | None = None
        self._began = False  # some of that call is out
        self._fresh = True  # at the beginning of the answer, or right behind a call
        self._closing: str | None = None  # what may still follow a call
        self._calls: list[str] = []

    @property
    def called(self) -> bool:
        """Whether there was a call by now."""
        return bool(self._calls)

    def push(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Take the next characters; return what is plain text and what are pieces of calls."""
        made = _Made()
        self._held += text
        while self._held and self._step(made):
            pass
        return made.text, made.deltas()

    def flush(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What was held back, once no more is to come. A call that broke off stays as far as it came."""
        made = _Made()
        if self._body is not None:
            self._finish_body(made)
        if not self._closing or not self._closing.startswith(self._held.lstrip()):
            made.text += self._held
        self._held = ""
        return made.text, made.deltas()

    def _step(self, made: "_Made") -> bool:
        """Deal with some of what is held; whether there may be more that can be dealt with now."""
        if self._body is not None:
            return self._read_body(self._body, made)
        if self._closing is not None:
            return self._skip_closing()
        at, opener = self._find_opener()
        if opener:
            before, self._held = self._held[:at], self._held[at + len(opener) :]
            if not (self._fresh and not before.strip()):
                made.text += before
                before = ""
            self._body, self._began, self._fresh = self._markup.body(), False, False
            self._raw, self._plain = before + opener, len(before) + 1
            if opener in self._markup.bare:  # it belongs to what the body reads
                self._raw, self._held = before, opener + self._held
            return True
        if self._fresh and self._held.isspace():  # before a call it is not worth showing
            return False
        keep = max(overlap(self._held, marker) for marker in self._markup.openers)
        end = len(self._held) - keep
        if self._held[:end].strip():
            self._fresh = False
        elif self._fresh:
            end = 0
        made.text += self._held[:end]
        self._held = self._held[end:]
        return False

    def _find_opener(self) -> tuple[int, str]:
        if self._fresh:
            begin = len(self._held) - len(self._held.lstrip())
            for opener in self._markup.bare:
                if self._held.startswith(opener, begin):
                    return begin, opener
        found = [(at, marker) for marker in self._markup.openers if (at := self._held.find(marker)) >= 0]
        return min(found, default=(0, ""))

    def _read_body(self, body: "_Body", made: "_Made") -> bool:
        for index, character in enumerate(self._held):
            try:
                events = body.feed(character)
                self._apply(events, made)
            except ValueError:
                rest = self._held[index:]
                self._body = None
                if self._began:  # what is out is out; the rest is text
                    made.text += rest[:1]
                    self._held = rest[1:]
                else:
                    back = self._raw + rest
                    made.text += back[: self._plain]
                    self._held = back[self._plain :]
                return True
            if not self._began:  # from there on nothing is given back
                self._raw += character
            if body.done:
                self._end_body(body)
                self._held = self._held[index + 1 :]
                return True
        self._held = ""
        return False

    def _apply(self, events: "list[_Event]", made: "_Made") -> None:
        for name, arguments in events:
            if name is not None:
                if self._names is not None and name not in self._names:
                    raise ValueError("no such tool")
                made.begin(len(self._calls), name)
                self._calls.append(name)
                self._began = True
            made.add(len(self._calls) - 1, arguments)

    def _end_body(self, body: "_Body") -> None:
        self._body, self._raw = None, ""
        self._closing = self._markup.closing
        self._fresh = True

    def _finish_body(self, made: "_Made") -> None:
        body = self._body
        assert body is not None
        with suppress(ValueError):
            self._apply(body.finish(), made)
        if not self._began:
            made.text += self._raw
        self._body, self._raw, self._closing = None, "", None

    def _skip_closing(self) -> bool:
        """Drop white space and the closing marker behind a call."""
        closing = self._closing or ""
        rest = self._held.lstrip(_SEPARATORS)
        if closing and rest.startswith(closing):
            self._held, self._closing = rest[len(closing) :], ""
            return True
        if not rest or closing.startswith(rest):
            self._held = rest
            return False
        self._held, self._closing = rest, None
        return True


#: A piece of a call: its name, in the first piece only, and more of its arguments.
_Event = tuple[str | None, str]

#: What may stand between two calls.
_SEPARATORS: Final = " \t\r\n;"


@dataclass(slots=True)
class _Made:
    """What one push makes: neighbouring pieces of one call's arguments become one delta."""

    text: str = ""
    _deltas: list[ToolCallDelta] = field(default_factory=list)
    _arguments: str = ""
    _index: int = -1

    def begin(self, index: int, name: str) -> None:
        self._settle()
        self._deltas.append(ToolCallDelta(index, f"call_{secrets.token_hex(12)}", name))

    def add(self, index: int, arguments: str) -> None:
        if index != self._index:
            self._settle()
        self._index = index
        self._arguments += arguments

    def deltas(self) -> tuple[ToolCallDelta, ...]:
        self._settle()
        return tuple(self._deltas)

    def _settle(self) -> None:
        if self._arguments:
            self._deltas.append(ToolCallDelta(self._index, arguments=self._arguments))
        self._arguments = ""


class _Body(Protocol):
    """Reads what follows an opening marker."""

    done: bool

    def feed(self, character: str) -> list[_Event]:
        """Take a character. Raises ValueError where this is no call."""

    def finish(self) -> list[_Event]:
        """Take the end of the answer; what is a call only now. Raises ValueError where that is none."""


class _JsonCall:
    """One object with a name and arguments; the arguments are passed on as they come."""

    def __init__(self) -> None:
        self.done = False
        self.began = False
        self._scanner = JsonScanner()
        self._key = ""
        self._name: str | None = None
        self._waiting = ""  # arguments that came before the name
        self._quoted = False  # the arguments are JSON inside a string
        self._has_arguments = False

    def feed(self, character: str) -> list[_Event]:
        scanner = self._scanner
        state, depth = scanner.state, scanner.depth
        if state == "value" and not depth and character not in "{ \t\r\n":
            raise ValueError("not an object")
        text = scanner.feed(character)
        if scanner.state == "done":
            self.done = True
            return self._end()
        if depth == 0 or (depth == 1 and state == "colon"):
            return []
        if depth == 1 and scanner.state == "colon" and state == "string":
            self._take_key(json.loads(scanner.string))
        elif self._key in _ARGUMENTS:
            return self._read_arguments(text, state, depth)
        elif self._key == "name" and depth == 1 and scanner.state == "after" and state == "string":
            self._name = json.loads(scanner.string)
            return self._begin() if self._has_arguments and not self._quoted else []
        elif self._key == "name" and state == "value" and scanner.state not in ("value", "string"):
            raise ValueError("a name is a string")
        return []

    def _take_key(self, key: str) -> None:
        if key not in _KEYS or (key == "name" and self._name is not None):
            raise ValueError("not a call")
        if key in _ARGUMENTS and self._has_arguments:
            raise ValueError("arguments twice")
        self._key = key

    def _read_arguments(self, text: str, state: str, depth: int) -> list[_Event]:
        scanner = self._scanner
        if state == "value" and depth == 1 and scanner.state != "value":  # the first character
            if text not in '{"n':
                raise ValueError("arguments are an object")
            self._has_arguments, self._quoted = True, text != "{"
        if self._quoted:
            if scanner.state == "after" and depth == 1:
                inner = json.loads(scanner.string) if state == "string" else "{}"
                if not _is_object(inner or "{}"):
                    raise ValueError("arguments are an object")
                self._waiting, self._quoted, self._key = inner or "{}", False, ""
                return self._begin() if self._name is not None else []
            return []
        if state == "value" and depth == 1 and scanner.state == "value":
            return []  # white space before the arguments
        if state == "after" and depth == 1:  # white space or a comma behind them
            self._key = ""
            return []
        if self.began:
            return [(None, text)]
        self._waiting += text
        return self._begin() if self._name is not None else []

    def _begin(self) -> list[_Event]:
        self.began = True
        waiting, self._waiting = self._waiting, ""
        return [(self._name, waiting)]

    def _end(self) -> list[_Event]:
        if self.began:
            return []
        if self._name is None:
            raise ValueError("a call needs a name")
        self._waiting = self._waiting or "{}"
        return self._begin()


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except RecursionError:
        return False


_ARGUMENTS: Final = ("arguments", "parameters", "args")
_KEYS: Final = frozenset({"name", "id", "type", *_ARGUMENTS})


class _JsonCalls:
    """A call, or an array of them."""

    def __init__(self) -> None:
        self.done = False
        self._call: _JsonCall | None = None
        self._array = False
        self._after = False  # behind a call of the array

    def feed(self, character: str) -> list[_Event]:
        if self._call is not None:
            events = self._call.feed(character)
            if self._call.done:
                self._call, self._after, self.done = None, True, not self._array
            return events
        if character.isspace():
            return []
        match character:
            case "[" if not self._array:
                self._array = True
            case "]" if self._after:
                self.done = True
            case "," if self._after:
                self._after = False
            case "{" if not self._after:
                self._call = _JsonCall()
                self._call.feed(character)
            case _:
                raise ValueError("not a call")
        return []

    def finish(self) -> list[_Event]:
        return []


class _MistralCalls:
    """JSON, or a name with its arguments behind it."""

    def __init__(self) -> None:
        self.done = False
        self._json: _JsonCalls | None = None
        self._head = ""
        self._arguments: JsonScanner | None = None

    def feed(self, character: str) -> list[_Event]:
        if self._json is not None:
            events = self._json.feed(character)
            self.done = self._json.done
            return events
        if self._arguments is not None:
            text = self._arguments.feed(character)
            self.done = self._arguments.state == "done"
            return [(None, text)]
        if not self._head and character in "[{":
            self._json = _JsonCalls()
            return self._json.feed(character)
        if character == "{":
            self._arguments = JsonScanner()
            self._arguments.feed(character)
            found = _MISTRAL_HEAD.fullmatch(self._head)
            if found is None:
                raise ValueError("not a call")
            return [(found[1], character)]
        self._head = (self._head + character).lstrip()
        if not _MISTRAL_PREFIX.fullmatch(self._head):
            raise ValueError("not a call")
        return []

    def finish(self) -> list[_Event]:
        return []


_MISTRAL_HEAD: Final = re.compile(r"([\w.-]{1,64})\s*(?:\[CALL_ID\]\w{0,64})?\s*(?:\[ARGS\])?\s*")
_MISTRAL_PREFIX: Final = re.compile(r"[\w.-]{0,64}\s{0,8}(?:\[[A-Z_]{0,8}(?:\]\w{0,64}\s{0,8})?){0,2}")


class _Fence:
    """Fenced code: Python calls, or the JSON object."""

    def __init__(self) -> None:
        self.done = False
        self._code = ""
        self._json: _JsonCalls | None = None

    def feed(self, character: str) -> list[_Event]:
        if self._json is not None and not self._json.done:
            return self._json.feed(character)
        self._code += character
        if self._json is None and _JSON_BEGINS.fullmatch(self._code):
            self._json, code = _JsonCalls(), self._code
            self._code = ""
            return [event for before in code for event in self._json.feed(before)]
        if self._json is not None:
            if self._code.strip().strip("`"):
                raise ValueError("text behind the call")
            self.done = self._code.rstrip().endswith("```")
            return []
        if not self._code.endswith("```"):
            return []
        self.done = True
        return _python_calls(self._code[:-3])

    def finish(self) -> list[_Event]:
        if self._json is None:
            return _python_calls(self._code)
        return self._json.finish()


_JSON_BEGINS: Final = re.compile(r"\s*+(?:\[\s*+)?\{")


def _python_calls(code: str) -> list[_Event]:
    """``print(name(key=value))``, bare or in a list, as calls. Only literals are understood; nothing is run."""
    try:
        tree = ast.parse(code.strip(), mode="exec")
        calls = [call for line in tree.body for call in _calls_in(line)]
        if not calls:
            raise ValueError("no call")
        return [
            (_dotted(call.func), _as_json({_keyword(k): ast.literal_eval(k.value) for k in call.keywords}))
            for call in calls
        ]
    except (SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError("not calls") from None


def _as_json(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, allow_nan=False)  # JSON has no infinity, Python's literals have


def _calls_in(line: ast.stmt) -> list[ast.Call]:
    if not isinstance(line, ast.Expr):
        raise ValueError("not a call")
    value = line.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
        if len(value.args) != 1:
            raise ValueError("not a call")
        value = value.args[0]
    found: list[Any] = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
    if not all(isinstance(call, ast.Call) and not call.args for call in found):
        raise ValueError("not a call")
    return found


def _dotted(name: ast.expr) -> str:
    if isinstance(name, ast.Attribute):
        return f"{_dotted(name.value)}.{name.attr}"
    if isinstance(name, ast.Name):
        return name.id
    raise ValueError("not a name")


def _keyword(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError("not a keyword")
    return keyword.arg


@dataclass(frozen=True, slots=True)
class _Markup:
    """What calls look like.

    Attributes:
        openers: markers that a call begins with, anywhere.
        body: reads what follows.
        closing: the marker that may follow.
        bare: what a call begins with where nothing stands before it.
    """

    openers: tuple[str, ...]
    body: type[_JsonCalls] | type[_MistralCalls] | type[_Fence]
    closing: str = ""
    bare: tuple[str, ...] = ()


_MARKUP: Final = {
    ToolStyle.HERMES: _Markup(("<tool_call>",), _JsonCalls, "</tool_call>"),
    ToolStyle.MISTRAL: _Markup(("[TOOL_CALLS]",), _MistralCalls),
    ToolStyle.LLAMA: _Markup(("<|python_tag|>",), _JsonCalls, "<|eom_id|>", bare=("{", "[")),
    ToolStyle.GEMMA: _Markup(("```tool_code\n", "```json\n", "```tool_call\n"), _Fence, bare=("{", "[")),
}
