"""JSON that is still being written, followed character by character."""

import re
from typing import Literal

State = Literal["value", "item", "key", "next_key", "string", "escape", "token", "colon", "after", "done"]

_SPACE = " \t\n\r"
_HEXADECIMAL = "0123456789abcdefABCDEF"
_TOKEN = re.compile(r"true|false|null|-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class JsonScanner:
    """Checks one JSON object as its characters come.

    Attributes:
        depth: objects and arrays that are open.
        state: what is expected next: a "value", an "item" or the end of an array, a "key" or the end of an object,
            the "next_key", more of a "string", an "escape" or a "token" (number, true, false, null), a "colon", what
            comes "after" a value; or nothing: "done".
        string: the text, with quotes, of the last string that began at depth 1, as far as it came.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.state: State = "value"
        self.string = ""
        self._open: list[str] = []
        self._token = ""
        self._escape = ""
        self._is_key = False

    def feed(self, character: str) -> str:
        """Take the next character.

        Returns:
            the character; of a control character inside a string, which JSON forbids but models write, its escape.

        Raises:
            ValueError: no JSON goes on like this.
        """
        match self.state:
            case "string" | "escape":
                character = self._in_string(character)
                if self.depth == 1:
                    self.string += character
                return character
            case "token" if character not in ",]}" + _SPACE:
                self._token += character
                return character
            case "token":
                if not _TOKEN.fullmatch(self._token):
                    raise ValueError("not JSON")
                self.state = "after"
        if character not in _SPACE:
            self._between(character)
        return character

    def _between(self, character: str) -> None:
        """A character outside strings and tokens."""
        match self.state, character:
            case (("value" | "item"), ("{" | "[")):
                self._open.append(character)
                self.depth += 1
                self.state = "key" if character == "{" else "item"
            case (("value" | "item" | "key" | "next_key"), '"'):
                self._is_key = self.state in ("key", "next_key")
                self.state = "string"
                if self.depth == 1:
                    self.string = '"'
            case (("key" | "after"), "}"):
                self._close("{")
            case (("item" | "after"), "]"):
                self._close("[")
            case "after", ",":
                self.state = "next_key" if self._open[-1] == "{" else "value"
            case "colon", ":":
                self.state = "value"
            case (("value" | "item"), _) if character in "-0123456789tfn" and self.depth:
                self.state, self._token = "token", character
            case _:
                raise ValueError("not JSON")

    def _close(self, kind: str) -> None:
        if self._open.pop() != kind:
            raise ValueError("not JSON")
        self.depth -= 1
        self.state = "after" if self.depth else "done"

    def _in_string(self, character: str) -> str:
        if self.state == "escape":
            self._escape += character
            if self._escape[0] == "u" and character in ("u" if self._escape == "u" else _HEXADECIMAL):
                self.state = "escape" if len(self._escape) < 5 else "string"
            elif self._escape in tuple('"\\/bfnrt'):
                self.state = "string"
            else:
                raise ValueError("not JSON")
        elif character == "\\":
            self.state, self._escape = "escape", ""
        elif character == '"':
            self.state = "colon" if self._is_key else "after"
        elif character < " ":
            return _ESCAPES.get(character, f"\\u{ord(character):04x}")
        return character
