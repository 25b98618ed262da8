"""Spoken arithmetic: sums, differences, products, quotients and comparisons, answered in words."""

from math import gcd
from typing import Final

from llama_pajamas_starter.chat.sample import Draw, Sample, capitalise, turn
from llama_pajamas_starter.vocabulary import spoken

TOO_HARD: Final = "That is too hard for me. I can add up to nine hundred ninety-nine and multiply by up to twelve."

_ASK: Final = (
    "what is {}", "what is {}", "what's {}", "how much is {}", "{}", "calculate {}.", "tell me {}.",
    "what does {} make",
    "can you tell me what {} is", "can you calculate {}", "what is the result of {}", "do you know what {} is",
    "I need {}.", "please work out {}.", "what would {} be", "solve {}.", "compute {}.", "what does {} equal",
)  # fmt: skip
_SYMBOLS: Final = {"plus": "+", "minus": "-", "times": "*", "divided by": "/"}
_THINGS: Final = ("apples", "books", "coins", "cookies", "pencils", "marbles", "stamps", "eggs", "cards", "flowers")


def _operation(draw: Draw, a: int, word: str, b: int) -> str:
    """A sum such as "a plus b" within a question, or with its sign."""
    first, second = draw.number(a), draw.number(b)
    if draw.digits and draw.chance(0.5):
        sign = "x" if word == "times" and draw.chance(0.4) else _SYMBOLS[word]
        operation = f"{first}{sign}{second}" if draw.chance(0.3) else f"{first} {sign} {second}"
        if draw.chance(0.1):
            return f"{operation} ="
    elif word == "times" and draw.chance(0.15):
        operation = f"{first} multiplied by {second}"
    else:
        operation = f"{first} {word} {second}"
    return draw.pick(_ASK).format(operation)


def statement(a: int, word: str, b: int, result: str) -> str:
    """The answer's sentence: "Two plus three is five."."""
    return f"{capitalise(spoken(a))} {word} {spoken(b)} is {result}."


def key_of(a: int, word: str, b: int) -> str:
    """The operands decide the split: no other wording of a held-out sum is trained on."""
    return f"{a} {word} {b}"


def _close(draw: Draw) -> tuple[int, int]:
    """Two three-digit numbers that share their hundreds."""
    hundreds = 100 * draw.integer(1, 9)
    return hundreds + draw.integer(0, 99), hundreds + draw.integer(0, 99)


def operands(draw: Draw, low_share: float = 0.65) -> tuple[int, int]:
    """Two numbers to add: mostly up to one hundred, else up to 999."""
    if draw.chance(low_share):
        return draw.integer(0, 100), draw.integer(0, 100)
    if draw.chance(0.3):
        return draw.integer(0, 999), draw.integer(0, 100)
    return draw.integer(0, 999), draw.integer(0, 999)


def addition(draw: Draw) -> Sample:
    """Sums of numbers up to 999."""
    a, b = operands(draw)
    x, y = draw.number(a), draw.number(b)
    question = _operation(draw, a, "plus", b)
    if draw.chance(0.25):
        question = draw.pick(
            (f"add {x} and {y}.", f"what is the sum of {x} and {y}", f"add {y} to {x}.", f"what do {x} and {y} make",
             f"what do you get when you add {x} and {y}", f"can you add {x} and {y}",
             f"{x} and {y} together make what",
             f"what is the total of {x} and {y}", f"how much are {x} and {y} together", f"sum {x} and {y}.")
        )  # fmt: skip
    return turn(draw, "addition", question, statement(a, "plus", b, spoken(a + b)), key=key_of(a, "plus", b))


def subtraction(draw: Draw) -> Sample:
    """Differences of numbers up to 999, one in eight below zero."""
    a, b = _close(draw) if draw.chance(0.1) else operands(draw)
    if b > a and not draw.chance(0.15):
        a, b = b, a
    x, y = draw.number(a), draw.number(b)
    question = _operation(draw, a, "minus", b)
    if draw.chance(0.25):
        question = draw.pick(
            (f"subtract {y} from {x}.", f"take {y} away from {x}.", f"what is {y} less than {x}",
             f"what is left when you take {y} from {x}", f"can you subtract {y} from {x}",
             f"what do you get when you subtract {y} from {x}", f"what is {x} less {y}")
        )  # fmt: skip
    return turn(draw, "subtraction", question, statement(a, "minus", b, spoken(a - b)), key=key_of(a, "minus", b))


def multiplication(draw: Draw) -> Sample:
    """Products of a number up to 99 and one up to 12."""
    a, b = (
        (draw.integer(0, 12), draw.integer(0, 12)) if draw.chance(0.45) else (draw.integer(10, 99), draw.integer(2, 12))
    )
    if draw.chance(0.3):
        a, b = b, a
    x, y = draw.number(a), draw.number(b)
    question = _operation(draw, a, "times", b)
    if draw.chance(0.2):
        question = draw.pick((f"multiply {x} by {y}.", f"what is the product of {x} and {y}", f"multiply {x} and {y}."))
    return turn(draw, "multiplication", question, statement(a, "times", b, spoken(a * b)))


def division(draw: Draw) -> Sample:
    """Exact quotients, and quotients with a remainder for dividends up to 100."""
    if draw.chance(0.02):
        a = draw.integer(1, 100)
        return turn(draw, "division", _operation(draw, a, "divided by", 0), "You cannot divide by zero.")
    if draw.chance(0.7):
        b = draw.integer(1, 12)
        quotient, rest = (draw.integer(1, 12) if draw.chance(0.6) else draw.integer(10, 99)), 0
        a = b * quotient
    else:
        b, a = draw.integer(2, 12), draw.integer(1, 100)
        quotient, rest = divmod(a, b)
    x, y = draw.number(a), draw.number(b)
    question = _operation(draw, a, "divided by", b)
    if draw.chance(0.2):
        question = f"divide {x} by {y}."
    result = spoken(quotient) + (f" remainder {spoken(rest)}" if rest else "")
    return turn(draw, "division", question, statement(a, "divided by", b, result))


def parts(draw: Draw) -> Sample:
    """Double, half, squares and easy percentages."""
    kind = draw.integer(0, 3)
    if kind == 0:
        a = draw.integer(0, 99)
        question = draw.pick(("what is double {}", "double {}.", "what is twice {}", "what is the double of {}"))
        return turn(draw, "parts", question.format(draw.number(a)), f"Twice {spoken(a)} is {spoken(2 * a)}.")
    if kind == 1:
        a = 2 * draw.integer(0, 100)
        question = draw.pick(("what is half of {}", "half of {}", "what's a half of {}", "how much is half of {}"))
        return turn(draw, "parts", question.format(draw.number(a)), f"Half of {spoken(a)} is {spoken(a // 2)}.")
    if kind == 2:
        a = draw.integer(0, 12)
        question = draw.pick(("what is {} squared", "what is the square of {}", "square {}."))
        return turn(draw, "parts", question.format(draw.number(a)), statement(a, "times", a, spoken(a * a)))
    percent = draw.pick((1, 5, 10, 10, 15, 20, 20, 25, 25, 30, 40, 50, 50, 60, 75, 80, 90, 100))
    step = 100 // gcd(percent, 100)
    a = step * draw.integer(1, 400 // step)
    percents = f"{percent}%" if draw.digits and draw.chance(0.5) else f"{draw.number(percent)} percent"
    question = draw.pick(("what is {} of {}", "how much is {} of {}", "{} of {}")).format(percents, draw.number(a))
    answer = f"{capitalise(spoken(percent))} percent of {spoken(a)} is {spoken(a * percent // 100)}."
    return turn(draw, "parts", question, answer)


def comparison(draw: Draw) -> Sample:
    """Which of two numbers is larger or smaller; what comes before or after a number."""
    if draw.chance(0.4):
        a = draw.integer(0, 998)
        if draw.chance(0.6):
            question = draw.pick(("what number comes after {}", "what comes after {}", "which number is next after {}"))
            answer = f"{capitalise(spoken(a + 1))} comes after {spoken(a)}."
        else:
            a += 1
            question = draw.pick(("what number comes before {}", "what comes before {}"))
            answer = f"{capitalise(spoken(a - 1))} comes before {spoken(a)}."
        return turn(draw, "comparison", question.format(draw.number(a)), answer)
    low, high = sorted(_close(draw) if draw.chance(0.4) else operands(draw))
    if low == high:
        high += 1
    x, y = (low, high) if draw.chance(0.5) else (high, low)
    word = draw.pick(("larger", "bigger", "greater", "smaller", "less", "more"))
    question = draw.pick(("which is {}, {} or {}", "what is {}, {} or {}", "which number is {}, {} or {}"))
    down = word in ("smaller", "less")
    first, second = (low, high) if down else (high, low)
    answer = f"{capitalise(spoken(first))} is {'smaller' if down else 'larger'} than {spoken(second)}."
    return turn(draw, "comparison", question.format(word, draw.number(x), draw.number(y)), answer)


def chain(draw: Draw) -> Sample:
    """Two operations: a sum of three numbers, or a product and then a sum."""
    if draw.chance(0.5):
        a, b, c = (draw.integer(0, 50) for _ in range(3))
        result, words = a + b + c, ("plus", "plus")
    else:
        a, b, c = draw.integer(1, 12), draw.integer(1, 12), draw.integer(0, 20)
        if c <= a * b and draw.chance(0.4):
            result, words = a * b - c, ("times", "minus")
        else:
            result, words = a * b + c, ("times", "plus")
    numbers = [draw.number(n) for n in (a, b, c)]
    signs = [_SYMBOLS[w] for w in words] if draw.digits and draw.chance(0.5) else words
    question = draw.pick(_ASK).format(f"{numbers[0]} {signs[0]} {numbers[1]} {signs[1]} {numbers[2]}")
    said = f"{spoken(a)} {words[0]} {spoken(b)} {words[1]} {spoken(c)}"
    return turn(draw, "two operations", question, f"{capitalise(said)} is {spoken(result)}.", key=said)


def round_numbers(draw: Draw) -> Sample:
    """Hundreds and thousands, and numbers below zero."""
    if draw.chance(0.3):
        a, b = -draw.integer(1, 30), draw.integer(0, 30)
        word = draw.pick(("plus", "minus"))
    else:
        unit = draw.pick((100, 100, 1000, 1000, 500))
        a, b = unit * draw.integer(1, 4900 // unit), unit * draw.integer(1, 4900 // unit)
        word = "plus" if b > a or draw.chance(0.6) else "minus"
    result = a + b if word == "plus" else a - b
    first = f"minus {draw.number(-a)}" if a < 0 else draw.number(a)
    if a < 0 and draw.digits and draw.chance(0.5):
        first = str(a)
    question = draw.pick(_ASK).format(f"{first} {word} {draw.number(b)}")
    return turn(
        draw,
        "addition" if word == "plus" else "subtraction",
        question,
        statement(a, word, b, spoken(result)),
        key=key_of(a, word, b),
    )


def word_problem(draw: Draw) -> Sample:
    """A sum told with things one has."""
    thing = draw.pick(_THINGS)
    if draw.chance(0.5):
        a, b = draw.integer(1, 50), draw.integer(1, 50)
        x, y = draw.number(a), draw.number(b)
        question = draw.pick(
            (f"if i have {x} {thing} and get {y} more, how many {thing} do i have",
             f"i have {x} {thing} and buy {y} more. How many {thing} do i have now",
             f"there are {x} {thing} on the table and {y} in the box. How many {thing} are there")
        )  # fmt: skip
        count, key = a + b, key_of(a, "plus", b)
    else:
        a, b = draw.integer(2, 60), draw.integer(1, 59)
        if b > a:
            a, b = b, a
        if draw.chance(0.06):
            b = a - 1
        x, y = draw.number(a), draw.number(b)
        question = draw.pick(
            (f"if i have {x} {thing} and lose {y}, how many {thing} are left",
             f"i have {x} {thing} and give away {y}. How many {thing} do i have left",
             f"there are {x} {thing} and {y} are taken away. How many {thing} are left")
        )  # fmt: skip
        count, key = a - b, key_of(a, "minus", b)
    question = question.replace(" i ", " I ").replace(". how", ". How")
    noun = thing[:-1] if count == 1 else thing
    verb = "is" if count == 1 else "are"
    return turn(draw, "word problem", capitalise(question), f"There {verb} {spoken(count)} {noun}.", key=key)


def too_hard(draw: Draw) -> Sample:
    """Numbers beyond what the model was taught: it must say so and not guess."""
    if draw.chance(0.5):
        word = draw.pick(("plus", "minus", "times", "divided by"))
        a, b = 100 * draw.integer(20, 999) + draw.integer(1, 99), draw.integer(1, 99_999)
        text = f"{a} {_SYMBOLS[word] if draw.chance(0.5) else word} {b}"
    else:
        a, b = draw.integer(13, 999), draw.integer(13, 999)
        text = f"{draw.number(a)} times {draw.number(b)}"
    return turn(draw, "too hard", draw.pick(_ASK).format(text), TOO_HARD)


def counting(draw: Draw) -> Sample:
    """Counting aloud, up or down."""
    start = 1 if draw.chance(0.6) else draw.integer(0, 20)
    end = start + draw.integer(2, 30)
    if draw.chance(0.2):
        start, end = end, start
    step = 1 if end >= start else -1
    numbers = [spoken(n) for n in range(start, end + step, step)]
    x, y = draw.number(start), draw.number(end)
    question = draw.pick((f"count from {x} to {y}.", f"can you count from {x} to {y}", f"count {x} to {y}."))
    if start == 1 and end > 1 and draw.chance(0.5):
        question = draw.pick((f"count to {y}.", f"can you count to {y}"))
    return turn(draw, "counting", question, capitalise(", ".join(numbers)) + ".")
