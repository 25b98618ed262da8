"""Units: lengths, weights, volumes, durations and temperatures, exact or with one decimal, answered in words."""

from typing import Final

from llama_pajamas_starter.chat.sample import Draw, Sample, capitalise, spoken_tenths, turn
from llama_pajamas_starter.vocabulary import spoken

#: (large unit, its plural, small unit, its plural, how many small ones make a large one, one decimal allowed)
CONVERSIONS: Final = (
    ("meter", "meters", "centimeter", "centimeters", 100, True),
    ("kilometer", "kilometers", "meter", "meters", 1000, True),
    ("centimeter", "centimeters", "millimeter", "millimeters", 10, True),
    ("meter", "meters", "millimeter", "millimeters", 1000, True),
    ("foot", "feet", "inch", "inches", 12, False),
    ("yard", "yards", "foot", "feet", 3, False),
    ("kilogram", "kilograms", "gram", "grams", 1000, True),
    ("gram", "grams", "milligram", "milligrams", 1000, True),
    ("ton", "tons", "kilogram", "kilograms", 1000, True),
    ("pound", "pounds", "ounce", "ounces", 16, False),
    ("liter", "liters", "milliliter", "milliliters", 1000, True),
    ("liter", "liters", "deciliter", "deciliters", 10, True),
    ("gallon", "gallons", "quart", "quarts", 4, False),
    ("hour", "hours", "minute", "minutes", 60, False),
    ("minute", "minutes", "second", "seconds", 60, False),
    ("hour", "hours", "second", "seconds", 3600, False),
    ("day", "days", "hour", "hours", 24, False),
    ("day", "days", "minute", "minutes", 1440, False),
    ("week", "weeks", "hour", "hours", 168, False),
    ("week", "weeks", "day", "days", 7, False),
    ("year", "years", "month", "months", 12, False),
)
#: How units are written with digits.
_SHORT: Final = {
    "meters": "m", "centimeters": "cm", "millimeters": "mm", "kilometers": "km", "kilograms": "kg", "grams": "g",
    "milligrams": "mg", "liters": "l", "milliliters": "ml", "deciliters": "dl", "feet": "ft", "pounds": "lb",
    "ounces": "oz",
    "hours": "h", "minutes": "min", "seconds": "s",
}  # fmt: skip


def _named(tenths: int, one: str, many: str) -> str:
    return f"{spoken_tenths(tenths)} {one if tenths == 10 else many}"


def conversion(draw: Draw) -> Sample:
    """One unit in another, in both directions."""
    big, bigs, small, smalls, factor, decimal = draw.pick(CONVERSIONS)
    tenths = 10 * draw.integer(1, min(20 if factor in (12, 16, 24, 60) else 30, 9000 // factor))
    if decimal and draw.chance(0.4):
        tenths = draw.integer(1, 99 if factor <= 100 else 89)
    count = tenths * factor // 10
    if draw.chance(0.5):
        source, target = (tenths, big, bigs), (count * 10, small, smalls)
    else:
        source, target = (count * 10, small, smalls), (tenths, big, bigs)
    said = f"{draw.tenths(source[0])} {source[1] if source[0] == 10 else source[2]}"
    short = _SHORT.get(source[2]) if draw.digits and draw.chance(0.4) else None
    if short:
        said = f"{draw.tenths(source[0])}{' ' if draw.chance(0.7) else ''}{short}"
    elif source[0] == 10 and not draw.digits and draw.chance(0.4):
        said = f"{'an' if source[1][0] in 'aeiou' or source[1] == 'hour' else 'a'} {source[1]}"
    many = _SHORT.get(target[2], target[2]) if short and draw.chance(0.6) else target[2]
    question = draw.pick(
        (f"how many {many} are in {said}", f"how many {many} are {said}", f"convert {said} to {many}.",
         f"what is {said} in {many}", f"how many {many} is {said}", f"{said} in {many}",
         f"how much is {said} in {many}",
         f"can you convert {said} to {many}", f"how many {many} does {said} make", f"express {said} in {many}.")
    )  # fmt: skip
    answer = f"{capitalise(_named(*source))} is {_named(*target)}."
    return turn(draw, "units", question, answer)


def temperature(draw: Draw) -> Sample:
    """Celsius to Fahrenheit and back, where both are whole numbers."""
    celsius = 5 * draw.integer(-8, 40)
    fahrenheit = celsius * 9 // 5 + 32
    to_fahrenheit = draw.chance(0.5)
    value, source, result, target = (
        (celsius, "Celsius", fahrenheit, "Fahrenheit")
        if to_fahrenheit
        else (fahrenheit, "Fahrenheit", celsius, "Celsius")
    )
    degrees = "degree" if value == 1 else "degrees"
    said = f"{draw.number(value)} {degrees} {source}"
    if draw.digits and draw.chance(0.3):
        said = f"{value} {source}" if draw.chance(0.6) else f"{value}°{source[0]}"
    question = draw.pick(
        (f"what is {said} in {target}", f"convert {said} to {target}.", f"how much is {said} in {target}")
    )
    unit = "degree" if result == 1 else "degrees"
    answer = f"{capitalise(spoken(value))} {degrees} {source} is {spoken(result)} {unit} {target}."
    return turn(draw, "temperature", question, answer)
