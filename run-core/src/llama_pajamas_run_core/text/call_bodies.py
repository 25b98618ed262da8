"""What a tool call looks like behind the marker that opens it: JSON, a name before JSON, or fenced Python.

A body is fed the characters one by one, and tells the pieces of calls as soon as they are certain.
"""

import ast
import json
import re
from typing import Any, Final, Protocol

from llama_pajamas_run_core.text.json_scanner import JsonScanner

#: A piece of a call: its name, in the first piece only, and more of its arguments.
Event = tuple[str | None, str]


class Body(Protocol):
    """Reads what follows an opening marker."""

    done: bool

    def feed(self, character: str) -> list[Event]:
        """Take a character. Raises ValueError where this is no call."""

    def finish(self) -> list[Event]:
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

    def feed(self, character: str) -> list[Event]:
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

    def _read_arguments(self, text: str, state: str, depth: int) -> list[Event]:
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

    def _begin(self) -> list[Event]:
        self.began = True
        waiting, self._waiting = self._waiting, ""
        return [(self._name, waiting)]

    def _end(self) -> list[Event]:
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


class JsonCalls:
    """A call, or an array of them."""

    def __init__(self) -> None:
        self.done = False
        self._call: _JsonCall | None = None
        self._array = False
        self._after = False  # behind a call of the array

    def feed(self, character: str) -> list[Event]:
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

    def finish(self) -> list[Event]:
        return []


class MistralCalls:
    """JSON, or a name with its arguments behind it."""

    def __init__(self) -> None:
        self.done = False
        self._json: JsonCalls | None = None
        self._head = ""
        self._arguments: JsonScanner | None = None

    def feed(self, character: str) -> list[Event]:
        if self._json is not None:
            events = self._json.feed(character)
            self.done = self._json.done
            return events
        if self._arguments is not None:
            text = self._arguments.feed(character)
            self.done = self._arguments.state == "done"
            return [(None, text)]
        if not self._head and character in "[{":
            self._json = JsonCalls()
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

    def finish(self) -> list[Event]:
        return []


_MISTRAL_HEAD: Final = re.compile(r"([\w.-]{1,64})\s*(?:\[CALL_ID\]\w{0,64})?\s*(?:\[ARGS\])?\s*")
_MISTRAL_PREFIX: Final = re.compile(r"[\w.-]{0,64}\s{0,8}(?:\[[A-Z_]{0,8}(?:\]\w{0,64}\s{0,8})?){0,2}")


class Fence:
    """Fenced code: Python calls, or the JSON object."""

    def __init__(self) -> None:
        self.done = False
        self._code = ""
        self._json: JsonCalls | None = None

    def feed(self, character: str) -> list[Event]:
        if self._json is not None and not self._json.done:
            return self._json.feed(character)
        self._code += character
        if self._json is None and _JSON_BEGINS.fullmatch(self._code):
            self._json, code = JsonCalls(), self._code
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

    def finish(self) -> list[Event]:
        if self._json is None:
            return _python_calls(self._code)
        return self._json.finish()


_JSON_BEGINS: Final = re.compile(r"\s*+(?:\[\s*+)?\{")


def _python_calls(code: str) -> list[Event]:
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
