"""Writing GBNF, llama.cpp's grammar notation.

Notation: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

import re

#: llama.cpp refuses a repetition of more than this.
MAX_REPEAT = 2000

#: White space between JSON's tokens; bounded, or a model could write it for ever.
SPACE = r'| " " | "\n"{1,2} [ \t]{0,20}'

_ESCAPES = {"\r": "\\r", "\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


class Rules:
    """The rules of a grammar, each under a name of its own."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}

    def add(self, name: str, body: str) -> str:
        """Add a rule; returns the name it got, which an equal rule has already or which is new."""
        base = re.sub(r"[^a-zA-Z0-9-]+", "-", name).strip("-")[:40] or "rule"
        number, candidate = 0, base
        while self._bodies.get(candidate, body) != body:
            number += 1
            candidate = f"{base}-{number}"
        self._bodies[candidate] = body
        return candidate

    def reserve(self, name: str) -> str:
        """A new name, whose body is set with :meth:`define`: for rules that refer to themselves."""
        return self.add(name, f"<<{name}-{len(self._bodies)}>>")

    def define(self, name: str, body: str) -> None:
        """Set the body of a reserved name."""
        self._bodies[name] = body

    def text(self, root: str) -> str:
        """The whole grammar.

        Args:
            root: body of the rule that everything begins with.
        """
        assert "root" not in self._bodies
        lines = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._bodies.items())]
        return "\n".join(lines) + "\n"


def literal(text: str) -> str:
    """Exactly this text."""
    return '"' + "".join(_escape(character) for character in text) + '"'


def char_class(characters: str, *, negate: bool = False) -> str:
    """One of these characters, or none of them."""
    body = "".join("\\" + c if c in "]-[" else _escape(c) if c != '"' else c for c in characters)
    body = body.replace("^", "\\x5E")
    return f"[{'^' if negate else ''}{body}]"


def alternatives(parts: list[str]) -> str:
    """One of these."""
    return parts[0] if len(parts) == 1 else "(" + " | ".join(parts) + ")"


def repeat(item: str, least: int, most: int | None) -> str:
    """An item so many times."""
    if most == 0:
        return '""'
    if (least, most) == (0, 1):
        return f"{item}?"
    if most is None and least <= 1:
        return f"{item}{'+' if least else '*'}"
    if least == most:
        return item if least == 1 else f"{item}{{{least}}}"
    return f"{item}{{{least},{'' if most is None else most}}}"


def separated(item: str, separator: str, least: int, most: int | None) -> str:
    """Items with a separator between them."""
    if most == 0:
        return '""'
    rest = repeat(f"({separator} {item})", max(least - 1, 0), None if most is None else most - 1)
    body = f"{item} {rest}"
    return body if least else f"({body})?"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02X}"
    return character
