"""Numbers within bounds, as GBNF."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from llama_pajamas_run_gguf.grammar.gbnf import alternatives

#: Digits of the integers and fractions that are written without bounds.
DIGITS = 15
INTEGER = f'"-"? ("0" | [1-9] [0-9]{{0,{DIGITS - 1}}})'
NUMBER = f'{INTEGER} ("." [0-9]{{1,{DIGITS}}})? ([eE] [-+]? [0-9]{{1,2}})?'

_FRACTION = f'("." [0-9]{{1,{DIGITS}}})?'


def integer_between(low: Decimal | None, high: Decimal | None) -> str | None:
    """Integers from ``low`` to ``high``, both included, None for no bound; None where there are none."""
    least = None if low is None else int(low.to_integral_value(ROUND_CEILING))
    most = None if high is None else int(high.to_integral_value(ROUND_FLOOR))
    if least is not None and most is not None and least > most:
        return None
    parts = []
    if least is None or least < 0:
        # -n lies between the bounds where n does between theirs, mirrored; zero is written without a sign.
        smallest = 1 if most is None or most >= 0 else -most
        parts.append(f'"-" {alternatives(_natural(smallest, None if least is None else -least))}')
    if most is None or most >= 0:
        parts.extend(_natural(max(least or 0, 0), most))
    return alternatives(parts)


def number_between(
    low: Decimal | None, high: Decimal | None, *, low_excluded: bool = False, high_excluded: bool = False
) -> str | None:
    """Numbers within bounds, as decimals without exponent; None where there are none."""
    if low is not None and high is not None and (low > high or (low == high and (low_excluded or high_excluded))):
        return None
    zero = Decimal(0)
    parts = []
    if high is None or high > 0 or (high == 0 and not high_excluded):
        parts += _positive(
            zero if low is None or low < 0 else low, high, low is not None and low >= 0 and low_excluded, high_excluded
        )
    if low is None or low < 0:
        mirrored = zero if high is None or high >= 0 else -high
        excluded = high is None or high >= 0 or high_excluded  # minus zero is left to the positive side
        parts += [f'"-" {part}' for part in _positive(mirrored, None if low is None else -low, excluded, low_excluded)]
    return alternatives(parts) if parts else None


def _natural(low: int, high: int | None) -> list[str]:
    """Naturals from ``low`` to ``high``, without leading zeros."""
    if high is None:
        if low == 0:
            return ['"0"', f"[1-9] [0-9]{{0,{DIGITS - 1}}}"]
        length = len(str(low))
        longer = f"[1-9] [0-9]{{{length},{max(DIGITS - 1, length)}}}"
        return [*_same_length(str(low), "9" * length), longer]
    parts = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (length - 1) if length > 1 else 0)
        last = min(high, 10**length - 1)
        if first <= last:
            parts += _same_length(str(first), str(last))
    return parts


def _same_length(low: str, high: str) -> list[str]:
    """Strings of digits from ``low`` to ``high``, all of the same length."""
    if low == high:
        return [f'"{low}"'] if low else ['""']
    if low[0] == high[0]:
        return [f'"{low[0]}" {alternatives(_same_length(low[1:], high[1:]))}']
    rest = len(low) - 1
    if not rest:
        return [_digit(low, high)]
    any_rest = f"[0-9]{{{rest}}}"
    parts = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        parts.append(f'"{low[0]}" {alternatives(_same_length(low[1:], "9" * rest))}')
        first += 1
    tail = None
    if high[1:] != "9" * rest:
        tail = f'"{high[0]}" {alternatives(_same_length("0" * rest, high[1:]))}'
        last -= 1
    if first <= last:
        parts.append(f"{_digit(str(first), str(last))} {any_rest}")
    return [*parts, tail] if tail else parts


def _digit(low: str, high: str) -> str:
    return f'"{low}"' if low == high else f"[{low}-{high}]"


def _positive(low: Decimal, high: Decimal | None, low_excluded: bool, high_excluded: bool) -> list[str]:
    """Numbers from ``low``, which is not negative, to ``high``."""
    whole, fraction = _split(low)
    if high is None:
        start = _fraction(whole, fraction, None, low_excluded, False)
        return [*start, *(f"{part} {_FRACTION}" for part in _natural(whole + 1, None))]
    last, end = _split(high)
    if whole == last:
        return _fraction(whole, fraction, end, low_excluded, high_excluded)
    parts = _fraction(whole, fraction, None, low_excluded, False)
    if whole + 1 <= last - 1:
        parts += [f"{part} {_FRACTION}" for part in _natural(whole + 1, last - 1)]
    return parts + _fraction(last, "", end, False, high_excluded)


def _split(value: Decimal) -> tuple[int, str]:
    """A number's whole part, and the digits of its fraction without trailing zeros."""
    whole = int(value.to_integral_value(ROUND_FLOOR))
    text = format(value - whole, "f")
    return whole, text.partition(".")[2].rstrip("0")


def _fraction(whole: int, low: str, high: str | None, low_excluded: bool, high_excluded: bool) -> list[str]:
    """Numbers with this whole part and a fraction from ``low`` to ``high`` (digits), or to 1 where that is None."""
    parts = []
    at_zero = not low and not low_excluded and not (high == "" and high_excluded)
    if at_zero:
        parts.append(f'"{whole}"')
    fractions = _fractions(low, high, low_excluded, high_excluded)
    if fractions:
        parts.append(f'"{whole}." {alternatives(fractions)}')
    return parts


def _fractions(low: str, high: str | None, low_excluded: bool, high_excluded: bool) -> list[str]:
    """Digit strings d, at least one digit, with 0.low <= 0.d <= 0.high."""
    if high == "":
        return [] if high_excluded or low else ['"0"']
    size = max(len(low), len(high or ""), 1)
    parts = []
    for length in range(1, size):
        first, last = _cut(low, length, up=True, excluded=low_excluded), 10**length - 1
        if high is not None:
            last = _cut(high, length, up=False, excluded=high_excluded)
        parts += _digits_between(first, last, length)
    # From the common size on, what lies strictly between the bounds may go on as it likes.
    more = f"[0-9]{{0,{max(DIGITS - size, 1)}}}"
    least, top = low.ljust(size, "0"), "9" * size if high is None else high.ljust(size, "0")
    inner = _digits_between(int(least) + 1, int(top) - (high is not None), size)
    if inner:
        parts.append(f"{alternatives(inner)} {more}")
    if high is None or least < top:
        parts.append(f'"{least}" ' + (f'"0"{{0,{DIGITS}}} [1-9] [0-9]{{0,2}}' if low_excluded else more))
    if high is not None and not high_excluded and not (low_excluded and least == top):
        parts.append(f'"{top}" "0"{{0,2}}')
    return parts


def _cut(digits: str, length: int, *, up: bool, excluded: bool) -> int:
    """A fraction's first digits, rounded to what still lies within it as a bound."""
    digits = digits.ljust(length, "0")
    number, exact = int(digits[:length]), not digits[length:].strip("0")
    if up:
        return number + (not exact or excluded)
    return number - (exact and excluded)


def _digits_between(first: int, last: int, length: int) -> list[str]:
    if first > last:
        return []
    return _same_length(str(first).rjust(length, "0"), str(last).rjust(length, "0"))
