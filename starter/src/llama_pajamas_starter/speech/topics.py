"""What people ask a voice assistant and what it answers: numbers, units, times, the home, what is in a picture."""

import functools
import re
from collections import Counter
from typing import Final

from llama_pajamas_starter.chat import families
from llama_pajamas_starter.chat.sample import Draw, Generator, Sample
from llama_pajamas_starter.speech import lexicon
from llama_pajamas_starter.speech.grammar import Maker, Random, article, everyday, finish, one, weighted
from llama_pajamas_starter.vocabulary import COLOURS, DEVICES, OBJECTS, RELATIONS, ROOMS, plural, spoken

#: What is written as it is spoken: no digits, no JSON.
_SPOKEN: Final = re.compile(r"[A-Z](?:[A-Za-z' ,-]|[.?!](?= [A-Z]))*[.?!]")


def number(rng: Random) -> str:
    """A number in words; small ones are likelier."""
    return spoken(rng.randint(0, rng.choice((20, 100, 100, 999, 9999))))


def _sum(rng: Random) -> str:
    return f"{number(rng)} {one(rng, 'plus|plus|minus|minus|times|times|divided by|multiplied by')} {number(rng)}"


_ASKED: Final = "what is {}|what's {}|how much is {}|can you tell me {}|do you know {}|please, what is {}"
_ARITHMETIC: Final[tuple[tuple[int, Maker], ...]] = (
    (40, lambda r: finish(f"{_sum(r)} {one(r, 'is|is|is|equals|makes')} {one(r, '||||minus ')}{number(r)}")),
    (35, lambda r: finish(one(r, _ASKED).format(_sum(r)), "?")),
    (6, lambda r: finish(one(r, "calculate {}|tell me {}|work out {}").format(_sum(r)))),
    (4, lambda r: finish(f"the answer to {_sum(r)} is {number(r)}")),
    (3, lambda r: finish(f"add {number(r)} {one(r, 'and|to')} {number(r)}")),
    (1, lambda r: finish(f"subtract {number(r)} from {number(r)}")),
    (2, lambda r: finish(f"{one(r, 'multiply|divide')} {number(r)} by {number(r)}")),
    (2, lambda r: finish(f"{one(r, 'half of|twice')} {number(r)} is {number(r)}")),
    (2, lambda r: finish(f"{number(r)} point {number(r)}")),
    (1, lambda r: finish(f"the number is {number(r)}")),
    (1, lambda r: finish(f"count from {number(r)} to {number(r)}")),
    (2, lambda r: finish(f"{number(r)} is {one(r, 'more|less|bigger|smaller|greater')} than {number(r)}")),
    (1, lambda r: finish(f"{number(r)} percent of {number(r)} is {number(r)}")),
)


def arithmetic(rng: Random) -> str:
    """A sum, asked or answered (whether it is right does not matter to the ear)."""
    return weighted(rng, _ARITHMETIC)


def _unit(rng: Random) -> str:
    return rng.choice(lexicon.UNITS)


_UNITS: Final[tuple[tuple[int, Maker], ...]] = (
    (1, lambda r: f"How many {_unit(r)} are in {number(r)} {_unit(r)}?"),
    (1, lambda r: f"How many {_unit(r)} are there in {number(r)} {_unit(r)}?"),
    (1, lambda r: finish(f"{number(r)} {_unit(r)} {one(r, 'is|are|equals|make')} {number(r)} {_unit(r)}")),
    (1, lambda r: f"Convert {number(r)} {_unit(r)} to {_unit(r)}."),
    (1, lambda r: f"What is {number(r)} {_unit(r)} in {_unit(r)}?"),
    (1, lambda r: f"There are {number(r)} {_unit(r)} in {article(_unit(r).removesuffix('s'))}."),
    (1, lambda r: f"It weighs {number(r)} {_unit(r)}."),
    (1, lambda r: f"It costs {number(r)} {one(r, 'dollars|euros|cents|pounds')}."),
    (1, lambda r: finish(f"{number(r)} point {number(r)} {_unit(r)}")),
)


def units(rng: Random) -> str:
    """A measure, or a conversion."""
    return weighted(rng, _UNITS)


def _hour(rng: Random) -> str:
    return spoken(rng.randint(1, 12))


_CLOCK: Final[tuple[tuple[int, Maker], ...]] = (
    (2, lambda r: f"{_hour(r)} o'clock"),
    (2, lambda r: f"{_hour(r)} {spoken(r.randint(10, 59))}"),
    (1, lambda r: f"{_hour(r)} oh {spoken(r.randint(1, 9))}"),
    (1, lambda r: f"half past {_hour(r)}"),
    (1, lambda r: f"quarter {one(r, 'past|to')} {_hour(r)}"),
    (2, lambda r: f"{spoken(r.randint(1, 30))}{one(r, ' minutes|')} {one(r, 'past|to|after|before')} {_hour(r)}"),
    (2, lambda r: f"{_hour(r)} {one(r, 'in the morning|in the afternoon|in the evening|at night')}"),
    (1, lambda r: one(r, "noon|midnight")),
)


def _clock(rng: Random) -> str:
    return weighted(rng, _CLOCK)


def _span(rng: Random) -> str:
    return f"{number(rng)} {one(rng, 'minutes|hours|seconds|days|weeks|months|years')}"


def _day(rng: Random) -> str:
    return rng.choice(lexicon.DAYS)


def _month(rng: Random) -> str:
    return rng.choice(lexicon.MONTHS)


def _ordinal(rng: Random) -> str:
    return rng.choice(lexicon.NUMBER_WORDS[: lexicon.NUMBER_WORDS.index("once")])


_TIMES: Final[tuple[tuple[int, Maker], ...]] = (
    (1, lambda r: f"It is {_clock(r)}."),
    (1, lambda r: f"The time is {_clock(r)}."),
    (1, lambda r: f"What time is it {_span(r)} after {_clock(r)}?"),
    (1, lambda r: f"It is {_clock(r)}. What time will it be in {_span(r)}?"),
    (1, lambda r: f"What is {_span(r)} {one(r, 'after|before')} {_clock(r)}?"),
    (1, lambda r: f"What day is it {_span(r)} {one(r, 'after|before')} {_day(r)}?"),
    (1, lambda r: f"What day comes {one(r, 'after|before')} {_day(r)}?"),
    (1, lambda r: f"Today is {_day(r)}, {_month(r)} {_ordinal(r)}."),
    (1, lambda r: f"It will be {_day(r)} in {_span(r)}."),
    (1, lambda r: f"{_month(r)} has {spoken(r.randint(28, 31))} days."),
    (1, lambda r: f"How many days are in {_month(r)}?"),
    (1, lambda r: f"Which month comes {one(r, 'after|before')} {_month(r)}?"),
    (1, lambda r: f"The meeting is on {_day(r)} at {_clock(r)}."),
    (1, lambda r: f"{one(r, 'Wake me up at|Set an alarm for')} {_clock(r)}."),
    (1, lambda r: f"Set a timer for {_span(r)}."),
    (1, lambda r: f"My birthday is on the {_ordinal(r)} of {_month(r)}."),
    (1, lambda r: f"{_day(r)} comes {one(r, 'after|before')} {_day(r)}."),
    (1, lambda r: f"In {_span(r)} it will be {_clock(r)}."),
    (1, lambda r: f"How long is it from {_clock(r)} to {_clock(r)}?"),
    (1, lambda r: f"There are {_span(r)} in {_span(r)}."),
)


def times(rng: Random) -> str:
    """A time or a date."""
    return weighted(rng, _TIMES)


_DOING: Final = {
    "turn_on": "turn on {}|switch on {}|turn {} on|start {}",
    "turn_off": "turn off {}|switch off {}|turn {} off|stop {}",
    "dim": "dim {}|make {} darker",
    "brighten": "brighten {}|make {} brighter",
    "open": "open {}",
    "close": "close {}|shut {}",
    "lock": "lock {}",
    "unlock": "unlock {}",
}
_STATE: Final = "on|off|open|closed|locked|unlocked|dimmed|brighter|darker"


def _device(rng: Random) -> tuple[str, str]:
    """A device and where it is: ("lamp", "the lamp in the kitchen")."""
    device, room = rng.choice(tuple(DEVICES)), rng.choice(ROOMS)
    where = one(rng, f"the {device} in the {room}|the {room} {device}|the {device}|all the {device.removesuffix('s')}s")
    return device, where


def _action(rng: Random) -> str:
    device, where = _device(rng)
    return one(rng, _DOING[rng.choice(DEVICES[device])]).format(where)


def _state(rng: Random) -> tuple[str, str, str]:
    device, where = _device(rng)
    return where, "are" if device == "blinds" or where.startswith("all") else "is", one(rng, _STATE)


def _told(rng: Random) -> str:
    where, be, state = _state(rng)
    return finish(f"{where} {be} {one(rng, '||now |already ')}{state}")


def _asked(rng: Random) -> str:
    where, be, state = _state(rng)
    return finish(f"{be} {where} {state}", "?")


_HOME: Final[tuple[tuple[int, Maker], ...]] = (
    (40, lambda r: finish(_action(r))),
    (10, lambda r: finish(f"{one(r, 'please|I want you to|I would like you to|go and')} {_action(r)}")),
    (10, lambda r: finish(f"{one(r, 'can you|could you|would you|will you')} {_action(r)}", "?")),
    (7, lambda r: finish(f"{_action(r)} {one(r, 'please|for me|now|right now')}")),
    (5, lambda r: finish(f"set {_device(r)[1]} to {number(r)} {one(r, 'percent|degrees')}")),
    (4, _asked),
    (24, _told),
)


def home(rng: Random) -> str:
    """A request to the home, or its state."""
    return weighted(rng, _HOME)


def _seen(rng: Random) -> str:
    thing = rng.choice(OBJECTS)
    if rng.random() < 0.35:
        thing = f"{rng.choice(tuple(COLOURS))} {thing}"
    count = rng.choices((1, 2, 3, 4, 5, 6, 7), (8, 4, 3, 2, 1, 1, 1))[0]
    return article(thing) if count == 1 else f"{spoken(count)} {plural(thing)}"


def _list(rng: Random) -> str:
    items = [_seen(rng) for _ in range(rng.randint(1, 4))]
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])}{one(rng, '|,')} and {items[-1]}"


def _object(rng: Random) -> str:
    return rng.choice(OBJECTS)


def _painted(rng: Random) -> str:
    return f"{rng.choice(tuple(COLOURS))} {_object(rng)}"


_SCENES: Final[tuple[tuple[int, Maker], ...]] = (
    (2, lambda r: f"I see {_list(r)}."),
    (1, lambda r: f"I can see {_list(r)} in the picture."),
    (1, lambda r: f"There {one(r, 'is|are')} {_list(r)}."),
    (1, lambda r: f"In the picture there is {_list(r)}."),
    (1, lambda r: f"The {_object(r)} is {r.choice(RELATIONS)} the {_object(r)}."),
    (1, lambda r: finish(f"{article(_painted(r))} is {r.choice(RELATIONS)} {article(_painted(r))}")),
    (1, lambda r: f"How many {plural(_object(r))} {one(r, 'are there|do you see')}?"),
    (1, lambda r: f"Is there {article(_object(r))} in the picture?"),
    (1, lambda r: f"What color is the {_object(r)}?"),
    (1, lambda r: f"The {_object(r)} is {r.choice(tuple(COLOURS))}."),
    (1, lambda r: f"There are no {plural(_object(r))}."),
    (1, lambda r: f"Yes, I see {_seen(r)}."),
    (1, lambda r: f"No, I do not see {article(_object(r))}."),
    (1, lambda r: f"Where is the {_object(r)}?"),
)


def scene(rng: Random) -> str:
    """What is in a picture."""
    return weighted(rng, _SCENES)


def phrase(rng: Random) -> str:
    """A phrase of conversation, sometimes with another sentence."""
    text = rng.choice(lexicon.PHRASES)
    if rng.random() < 0.25:
        text += " " + rng.choice((rng.choice(lexicon.PHRASES), everyday(rng)))
    return text


@functools.cache
def _chat_generators() -> tuple[list[Generator], list[float]]:
    return [generator for generator, _ in families.PLAIN], [share for _, share in families.PLAIN]


def _spoken_texts(sample: Sample) -> list[str]:
    texts = [message["content"] for message in sample.messages if isinstance(message.get("content"), str)]
    # "colour" and "color" sound alike; the assistant writes the second.
    return [text for text in texts if _SPOKEN.fullmatch(text) and "olour" not in text]


def chat(rng: Random) -> str:
    """What people say to the starter assistant, and what it answers, from the generators that train it."""
    generators, shares = _chat_generators()
    while True:
        if texts := _spoken_texts(rng.choices(generators, shares)[0](Draw(rng, spoken_only=True))):
            return rng.choice(texts)


@functools.cache
def set_phrases() -> frozenset[str]:
    """What is said in the same words again and again: the phrases, and the assistant's fixed answers."""
    rng = Random(0)
    said = set(lexicon.PHRASES)
    for generator in _chat_generators()[0]:
        counts = Counter(text for _ in range(400) for text in _spoken_texts(generator(Draw(rng, spoken_only=True))))
        said.update(text for text, count in counts.items() if count >= 3)
    return frozenset(said)
