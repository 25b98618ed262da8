"""JSON strings as GBNF: any string, lengths, and regular expressions (``pattern``, ``format``)."""

from dataclasses import dataclass

from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_gguf.grammar.gbnf import MAX_REPEAT, alternatives, literal, repeat

#: Four hexadecimal digits that are no half of a surrogate pair.
_CODE = r"([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2})"
#: One character of a JSON string.
CHARACTER = rf'([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" {_CODE}))'
#: One character that is written as itself.
PLAIN = r'[^"\\\x7F\x00-\x1F]'
STRING = rf'"\"" {CHARACTER}* "\""'

_LAST = 0x10FFFF
_SHORT = {0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
_Ranges = tuple[tuple[int, int], ...]

_DIGITS: _Ranges = ((0x30, 0x39),)
_WORD: _Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_BLANK: _Ranges = ((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x2028, 0x2029), (0xFEFF, 0xFEFF))
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _BLANK}
_CONTROLS = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B, "0": 0}

_MONTH_DAY = r"((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
_DATE = rf"[1-9]\d{{3}}-{_MONTH_DAY}"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_HOST = r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?){0,4}\.[a-z]{2,10}"
_CLOCK = r"\d{1,4}(H(\d{1,4}M(\d{1,4}S)?)?|M(\d{1,4}S)?|S)"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"

#: ``format`` as regular expressions; some take less than the format allows, none takes more.
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": rf"P(\d{{1,4}}D(T{_CLOCK})?|T{_CLOCK}|\d{{1,4}}W)",
    "email": rf"[A-Za-z0-9]([A-Za-z0-9_+-]|\.[A-Za-z0-9]){{0,40}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "ipv6": r"[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}",
    "uuid": r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
    "uri": rf"https?://{_HOST}(/[A-Za-z0-9._~-]{{0,40}}){{0,8}}(\?[A-Za-z0-9=&_-]{{1,80}})?(#[A-Za-z0-9_-]{{1,40}})?",
}


def sized_string(least: int, most: int | None) -> str:
    """Strings of so many characters."""
    if least > MAX_REPEAT:
        raise Unsupported(f"minLength of more than {MAX_REPEAT} cannot be enforced.", param="response_format")
    if most is not None:
        most = min(most, MAX_REPEAT)
    return f'"\\"" {repeat(CHARACTER, least, most)} "\\""'


def formatted_string(name: str) -> str:
    """Strings of a ``format``.

    Raises:
        Unsupported: the format is not known.
    """
    if name not in FORMATS:
        raise Unsupported(
            f"The format {name!r} cannot be enforced.",
            hint=f"Known are {', '.join(FORMATS)}; or use a pattern.",
            param="response_format",
        )
    return f'"\\"" {_Parser(FORMATS[name]).parse()} "\\""'


def matching_string(pattern: str) -> str:
    """Strings in which a regular expression is found, as JSON Schema's ``pattern`` means it.

    Raises:
        BadInput: the expression is not valid.
        Unsupported: it uses look-around, back references, word borders or Unicode classes.
    """
    parser = _Parser(pattern)
    return f'"\\"" {parser.parse_anchored()} "\\""'


@dataclass
class _Parser:
    """Turns a regular expression (ECMA 262) into GBNF, by recursive descent."""

    source: str
    at: int = 0

    def parse(self) -> str:
        """The whole source, which must not contain anchors."""
        body = self._choice()
        self._must_end()
        return body

    def parse_anchored(self) -> str:
        """The whole source; what is not anchored may have other text before or after it."""
        branches = [self._branch()]
        while self._take("|"):
            branches.append(self._branch())
        self._must_end()
        return alternatives(branches)

    def _branch(self) -> str:
        start = "" if self._take("^") else f"{CHARACTER}* "
        body = self._sequence()
        end = "" if self._take("$") else f" {CHARACTER}*"
        return f"{start}{body}{end}"

    def _choice(self) -> str:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        return alternatives(parts)

    def _sequence(self) -> str:
        items: list[str] = []
        while self.at < len(self.source) and self.source[self.at] not in "|)$":
            items.append(self._quantified())
        return " ".join(items) or '""'

    def _quantified(self) -> str:
        item = self._atom()
        bounds = self._quantifier()
        if bounds is None:
            return item
        self._take("?")  # lazy: the same strings match
        least, most = bounds
        if max(least, most or 0) > MAX_REPEAT:
            raise Unsupported(f"More than {MAX_REPEAT} repetitions cannot be enforced.", param="response_format")
        if most is not None and least > most:
            raise self._invalid("its repetition counts are in the wrong order")
        return repeat(item, least, most)

    def _quantifier(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        end = self.source.find("}", self.at)
        if self.at >= len(self.source) or self.source[self.at] != "{" or end < 0:
            return None
        low, comma, high = self.source[self.at + 1 : end].partition(",")
        if not low.isdecimal() or (high and not high.isdecimal()):
            return None
        self.at = end + 1
        return int(low), (int(high) if high else None) if comma else int(low)

    def _atom(self) -> str:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return _characters(self._class())
        if character == ".":
            return _characters(_without(((0, _LAST),), ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))))
        if character == "\\":
            return _characters(self._escape())
        if character in "*+?":
            raise self._invalid(f"nothing comes before its {character!r}")
        if character == "^":
            raise Unsupported("An anchor inside a pattern cannot be enforced.", param="response_format")
        return _characters(((ord(character), ord(character)),))

    def _group(self) -> str:
        if self._take("?"):
            if self._take("<") and self.source[self.at : self.at + 1] not in ("=", "!"):
                self.at = self.source.find(">", self.at) + 1
            elif not self._take(":"):
                raise Unsupported("Look-around in a pattern cannot be enforced.", param="response_format")
        body = self._choice()
        if self.source[self.at : self.at + 1] == "$":
            raise Unsupported("An anchor inside a pattern cannot be enforced.", param="response_format")
        if not self._take(")"):
            raise self._invalid("a bracket is not closed")
        return f"({body})"

    def _class(self) -> _Ranges:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            low = self._class_item()
            single = len(low) == 1 and low[0][0] == low[0][1]
            if single and self.source[self.at : self.at + 1] == "-" and self.source[self.at + 1 : self.at + 2] != "]":
                self.at += 1
                high = self._class_item()
                if len(high) != 1 or high[0][0] != high[0][1] or high[0][0] < low[0][0]:
                    raise self._invalid("a range in it is in the wrong order")
                ranges.append((low[0][0], high[0][0]))
            else:
                ranges.extend(low)
        return _without(((0, _LAST),), tuple(ranges)) if negated else tuple(ranges)

    def _class_item(self) -> _Ranges:
        character = self._next()
        if character != "\\":
            return ((ord(character), ord(character)),)
        if self._take("b"):
            return ((0x08, 0x08),)
        return self._escape()

    def _escape(self) -> _Ranges:
        name = self._next()
        if name in _CLASSES:
            return _CLASSES[name]
        if name.lower() in _CLASSES:
            return _without(((0, _LAST),), _CLASSES[name.lower()])
        if name in _CONTROLS:
            return ((_CONTROLS[name], _CONTROLS[name]),)
        if name in "xu":
            size = 2 if name == "x" else 4
            digits, self.at = self.source[self.at : self.at + size], self.at + size
            try:
                code = int(digits, 16)
            except ValueError:
                raise self._invalid("it has a broken escape") from None
            return ((code, code),)
        if name in "bBpPk" or name.isdigit():
            raise Unsupported(f"\\{name} in a pattern cannot be enforced.", param="response_format")
        return ((ord(name), ord(name)),)

    def _next(self) -> str:
        if self.at >= len(self.source):
            raise self._invalid("it ends too early")
        self.at += 1
        return self.source[self.at - 1]

    def _take(self, text: str) -> bool:
        if self.source.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def _must_end(self) -> None:
        if self.at < len(self.source):
            if self.source[self.at] == "$":
                raise Unsupported("An anchor inside a pattern cannot be enforced.", param="response_format")
            raise self._invalid("a bracket was never opened")

    def _invalid(self, why: str) -> BadInput:
        return BadInput(f"The pattern {self.source!r} is not a regular expression: {why}.", param="response_format")


def _without(ranges: _Ranges, holes: _Ranges) -> _Ranges:
    """Ranges with others cut out."""
    result = list(ranges)
    for low, high in holes:
        result = [
            piece
            for start, end in result
            for piece in ((start, min(end, low - 1)), (max(start, high + 1), end))
            if piece[0] <= piece[1]
        ]
    return tuple(dict.fromkeys(result))


def _characters(ranges: _Ranges) -> str:
    """One character out of these, as it is written inside a JSON string."""
    plain = _without(ranges, ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), (0xD800, 0xDFFF)))
    parts = []
    if len(plain) == 1 and plain[0][0] == plain[0][1]:
        parts.append(literal(chr(plain[0][0])))
    elif plain:
        parts.append(
            "[" + "".join(_point(low) if low == high else f"{_point(low)}-{_point(high)}" for low, high in plain) + "]"
        )
    for code in (*range(0x20), 0x22, 0x5C, 0x7F):
        if any(low <= code <= high for low, high in ranges):
            parts.append(literal(_SHORT.get(code, f"\\u{code:04x}")))
    if not parts:
        raise BadInput("A character class of the pattern matches nothing.", param="response_format")
    return alternatives(parts)


def _point(code: int) -> str:
    """A code point inside a GBNF character class."""
    character = chr(code)
    if character.isascii() and character.isalnum():
        return character
    return f"\\U{code:08X}"
