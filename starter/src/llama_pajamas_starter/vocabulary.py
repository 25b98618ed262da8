"""The words that all starter models share.

The detector's classes are what the chat model describes and what the speech model hears, so they are written once.
"""

from typing import Final

#: What is drawn, in the order of the detector's and the classifier's class ids.
OBJECTS: Final = ("ball", "box", "star", "tree", "house", "car", "fish", "flower", "clock", "boat")

#: Colours an object can have, with the sRGB value at the centre of the range that is drawn.
COLOURS: Final = {
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (240, 215, 40),
    "green": (50, 160, 70),
    "blue": (45, 95, 210),
    "purple": (135, 60, 175),
    "pink": (245, 140, 190),
    "gray": (130, 130, 130),
}

#: How two objects can lie to each other in a caption.
RELATIONS: Final = ("left of", "right of", "above", "below")

ROOMS: Final = ("kitchen", "bedroom", "living room", "bathroom", "office", "garage", "hallway", "garden")

#: Home devices and the actions that make sense for each.
DEVICES: Final = {
    "light": ("turn_on", "turn_off", "dim", "brighten"),
    "lamp": ("turn_on", "turn_off", "dim", "brighten"),
    "fan": ("turn_on", "turn_off"),
    "heater": ("turn_on", "turn_off"),
    "television": ("turn_on", "turn_off"),
    "speaker": ("turn_on", "turn_off"),
    "door": ("open", "close", "lock", "unlock"),
    "window": ("open", "close"),
    "blinds": ("open", "close"),
}

_ONES: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS: Final = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def plural(noun: str) -> str:
    """The plural of one of :data:`OBJECTS` ("box" -> "boxes", "fish" -> "fish")."""
    if noun == "fish":
        return noun
    return noun + ("es" if noun.endswith("x") else "s")


def spoken(number: int) -> str:
    """An integer from -9999 to 9999 in English words, as the starter models hear, read and say it.

    Raises:
        ValueError: the number is outside that range.
    """
    if number < 0:
        return f"minus {spoken(-number)}"
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (f" {spoken(rest)}" if rest else "")
    if number < 10_000:
        thousands, rest = divmod(number, 1000)
        return f"{_ONES[thousands]} thousand" + (f" {spoken(rest)}" if rest else "")
    raise ValueError(f"{number} is outside -9999 to 9999")
