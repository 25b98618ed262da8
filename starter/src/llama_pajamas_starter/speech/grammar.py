"""Everyday English: a small grammar over the lexicon, right in its forms and free in its meaning."""

import functools
import random
from collections.abc import Callable
from typing import Final

from llama_pajamas_starter.speech import lexicon
from llama_pajamas_starter.vocabulary import COLOURS, OBJECTS, plural, spoken

Random = random.Random
Maker = Callable[[Random], str]

_IRREGULAR_PLURALS: Final = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "wife": "wives", "leaf": "leaves",
    "knife": "knives", "shelf": "shelves", "wolf": "wolves", "fish": "fish", "sheep": "sheep", "deer": "deer",
    "mouse": "mice", "goose": "geese", "gentleman": "gentlemen", "fisherman": "fishermen", "scissors": "scissors",
    "life": "lives", "half": "halves", "tomato": "tomatoes", "potato": "potatoes",
}  # fmt: skip


def one(rng: Random, choices: str) -> str:
    """One of several texts, written with bars between them."""
    return rng.choice(choices.split("|"))


def weighted(rng: Random, makers: tuple[tuple[int, Maker], ...]) -> str:
    """What one of the makers makes, chosen by weight."""
    return rng.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0](rng)


def sometimes(rng: Random, probability: float, maker: Maker) -> str:
    """A space and what the maker makes, or nothing."""
    return " " + maker(rng) if rng.random() < probability else ""


def finish(text: str, mark: str = ".") -> str:
    """A sentence of a text: capital first letter, final mark."""
    return text[0].upper() + text[1:] + mark


def article(noun_phrase: str) -> str:
    """Puts "a" or "an" before a noun phrase."""
    vowel = noun_phrase.startswith(("a", "e", "i", "o", "u")) and not noun_phrase.startswith(
        ("uni", "use", "usu", "on")
    )
    return f"an {noun_phrase}" if vowel or noun_phrase.startswith(("honest", "hour")) else f"a {noun_phrase}"


def many(noun: str) -> str:
    """The plural of a noun of the lexicon."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh", "z")) else "s")


def noun(rng: Random) -> str:
    """A countable noun."""
    kind = rng.choice((lexicon.PEOPLE, lexicon.ANIMALS, lexicon.THINGS, lexicon.THINGS, lexicon.ABSTRACT))
    return rng.choice(kind)


def described(rng: Random) -> str:
    """A countable noun, half of the time with an adjective."""
    if rng.random() < 0.5:
        return noun(rng)
    degree = one(rng, "very |really |quite ") if rng.random() < 0.15 else ""
    return f"{degree}{rng.choice(lexicon.ADJECTIVES)} {noun(rng)}"


def several(rng: Random) -> str:
    """A plural noun, half of the time with an adjective."""
    adjective = rng.choice(lexicon.ADJECTIVES) + " " if rng.random() < 0.5 else ""
    return adjective + many(noun(rng))


def time(rng: Random) -> str:
    """When: "on Monday"."""
    return rng.choice(lexicon.TIMES)


_OBJECTS: Final[tuple[tuple[int, Maker], ...]] = (
    (30, lambda r: f"the {described(r)}"),
    (20, lambda r: article(described(r))),
    (15, lambda r: f"{one(r, 'my|your|his|her|our|their|its')} {described(r)}"),
    (10, lambda r: f"{spoken(r.randint(2, 120))} {several(r)}"),
    (8, lambda r: f"{one(r, 'the|some|many|all the|a few|several|no|these|those|most of the|both')} {several(r)}"),
    (7, lambda r: f"{one(r, 'some|the|more|less|a little|enough|no|much')} {r.choice(lexicon.MASS)}"),
    (5, lambda r: f"{one(r, 'this|that|every|another|each|the other|the same')} {described(r)}"),
    (5, lambda r: one(r, "it|them|him|her|us|me|everything|something|nothing|anything|this|that")),
)


def thing(rng: Random) -> str:
    """The object of a verb."""
    return weighted(rng, _OBJECTS)


_PLACES: Final[tuple[tuple[int, Maker], ...]] = (
    (30, lambda r: f"{r.choice(lexicon.PREPOSITIONS)} the {r.choice(lexicon.PLACES)}"),
    (30, lambda r: f"{r.choice(lexicon.PREPOSITIONS)} the {r.choice(lexicon.ADJECTIVES)} {r.choice(lexicon.PLACES)}"),
    (20, lambda r: f"{r.choice(lexicon.PREPOSITIONS)} the {r.choice(lexicon.THINGS)}"),
    (15, lambda r: f"{one(r, 'in|to|from|near')} {r.choice(lexicon.COUNTRIES)}"),
    (5, lambda r: one(r, "here|there|outside|inside|upstairs|downstairs|at home|at work|everywhere|far away")),
)


def place(rng: Random) -> str:
    """Where: "behind the school"."""
    return weighted(rng, _PLACES)


_SUBJECTS: Final[tuple[tuple[int, str, Maker], ...]] = (
    (12, "I", lambda r: "I"),
    (20, "you", lambda r: one(r, "you|we|they")),
    (18, "he", lambda r: one(r, "he|she|it")),
    (14, "he", lambda r: r.choice(lexicon.NAMES)),
    (16, "he", lambda r: f"{one(r, 'the|my|your|his|her|our|their|this|that|every|no')} {described(r)}"),
    (10, "you", lambda r: f"{one(r, 'the|some|many|most|all|these|my|our')} {several(r)}"),
    (5, "you", lambda r: f"{r.choice(lexicon.NAMES)} and {r.choice(lexicon.NAMES)}"),
    (5, "he", lambda r: one(r, "everyone|someone|nobody|everybody|somebody|nothing|everything|this|that")),
)


def subject(rng: Random) -> tuple[str, str]:
    """A subject and its person: "I", "you" (also for the plural) or "he"."""
    _, person, maker = rng.choices(_SUBJECTS, [weight for weight, _, _ in _SUBJECTS])[0]
    return maker(rng), person


def verb(rng: Random) -> tuple[tuple[str, ...], str]:
    """A verb's five forms, and its object with a space before it (or nothing)."""
    if rng.random() < 0.68:
        return rng.choice(lexicon.TRANSITIVE), " " + thing(rng)
    return rng.choice(lexicon.INTRANSITIVE), ""


def be(person: str, past: bool = False) -> str:
    """The form of "to be"."""
    if past:
        return "were" if person == "you" else "was"
    return {"I": "am", "you": "are", "he": "is"}[person]


_COMPLEMENTS: Final[tuple[tuple[int, Maker], ...]] = (
    (38, lambda r: r.choice(lexicon.ADJECTIVES)),
    (17, lambda r: f"{r.choice(lexicon.ADVERBS_DEGREE)} {r.choice(lexicon.ADJECTIVES)}"),
    (25, lambda r: article(described(r))),
    (10, place),
    (10, lambda r: f"{r.choice(lexicon.ADJECTIVES)} and {r.choice(lexicon.ADJECTIVES)}"),
)


def complement(rng: Random) -> str:
    """What stands behind "is"."""
    return weighted(rng, _COMPLEMENTS)


def _present(rng: Random, forms: tuple[str, ...], person: str) -> str:
    often = rng.choice(lexicon.ADVERBS_FREQUENCY) + " " if rng.random() < 0.25 else ""
    return often + forms[person == "he"]


_MODALS: Final = "will|can|should|must|might|could|would|may|cannot|won't|can't"


def _future(rng: Random, forms: tuple[str, ...], person: str) -> str:
    return f"{one(rng, _MODALS)} {forms[0]}"


def _perfect(rng: Random, forms: tuple[str, ...], person: str) -> str:
    return f"{'has' if person == 'he' else 'have'} {one(rng, '||already |never |just |not ')}{forms[3]}"


def _negated(rng: Random, forms: tuple[str, ...], person: str) -> str:
    does = "does not|doesn't" if person == "he" else "do not|don't"
    negation = one(rng, f"{does}|did not|didn't")
    return f"{negation} {forms[0]}"


def _wanted(rng: Random, forms: tuple[str, ...], person: str) -> str:
    verbs = "wants|needs|likes|tries|has|hopes|plans" if person == "he" else "want|need|like|try|have|hope|plan"
    return f"{one(rng, verbs)} to {forms[0]}"


Tense = Callable[[Random, tuple[str, ...], str], str]
_TENSES: Final[tuple[tuple[int, Tense], ...]] = (
    (20, _present),
    (18, lambda r, forms, person: forms[2]),
    (10, _future),
    (10, lambda r, forms, person: f"{be(person, r.random() < 0.4)} {forms[4]}"),
    (8, _perfect),
    (8, _negated),
    (6, _wanted),
)


def clause(rng: Random) -> str:
    """A main clause without its capital and its mark."""
    who, person = subject(rng)
    if rng.random() < 0.2:
        how = one(rng, "||| not| never| always| still| really")
        return f"{who} {be(person, rng.random() < 0.4)}{how} {complement(rng)}"
    forms, what = verb(rng)
    tense = rng.choices([tense for _, tense in _TENSES], [weight for weight, _ in _TENSES])[0]
    said = tense(rng, forms, person)
    manner = sometimes(rng, 0.12, lambda r: r.choice(lexicon.ADVERBS_MANNER))
    return f"{who} {said}{what}{sometimes(rng, 0.35, place)}{manner}{sometimes(rng, 0.28, time)}"


def _does(rng: Random, person: str) -> str:
    return one(rng, f"{'does' if person == 'he' else 'do'}|did|can|will|should|could|would")


def _yes_or_no(rng: Random) -> str:
    who, person = subject(rng)
    forms, what = verb(rng)
    return f"{_does(rng, person)} {who} {forms[0]}{what}{sometimes(rng, 0.3, time)}"


def _which_way(rng: Random) -> str:
    return f"{one(rng, 'why|when|where|how|how often|how long|what time')} {_yes_or_no(rng)}"


def _is_it(rng: Random) -> str:
    who, person = subject(rng)
    return f"{be(person, rng.random() < 0.4)} {who} {complement(rng)}"


def _where_is(rng: Random) -> str:
    who, person = subject(rng)
    return f"{one(rng, 'where|who|what|how|why')} {be(person, rng.random() < 0.4)} {who}"


def _what(rng: Random) -> str:
    who, person = subject(rng)
    return f"what {_does(rng, person)} {who} {rng.choice(lexicon.TRANSITIVE)[0]}{sometimes(rng, 0.3, time)}"


def _how_many(rng: Random) -> str:
    asked = one(rng, "are there|do you have|did you see|do we need")
    return f"how many {many(noun(rng))} {asked}{sometimes(rng, 0.4, place)}"


def _is_there(rng: Random) -> str:
    asked = one(rng, "is there|do you have|can I have|have you seen|who has")
    return f"{asked} {thing(rng)}{sometimes(rng, 0.5, place)}"


_QUESTIONS: Final[tuple[tuple[int, Maker], ...]] = (
    (25, _yes_or_no),
    (20, _which_way),
    (13, _is_it),
    (10, _where_is),
    (10, _what),
    (8, _how_many),
    (7, _is_there),
    (7, lambda r: f"which {r.choice(lexicon.THINGS)} {be('he', r.random() < 0.3)} {r.choice(lexicon.ADJECTIVES)}"),
)


def question(rng: Random) -> str:
    """A question."""
    return finish(weighted(rng, _QUESTIONS), "?")


def _order(rng: Random) -> str:
    forms, what = verb(rng)
    return f"{forms[0]}{what}{sometimes(rng, 0.3, place)}{sometimes(rng, 0.2, time)}"


_COMMANDS: Final[tuple[tuple[int, Maker], ...]] = (
    (43, lambda r: finish(_order(r), "!" if r.random() < 0.06 else ".")),
    (20, lambda r: finish("please " + _order(r))),
    (15, lambda r: finish(one(r, "do not |don't |never |let's |let us |always ") + _order(r))),
    (10, lambda r: finish(one(r, "can you |could you |would you |will you please ") + _order(r), "?")),
    (7, lambda r: finish(f"{_order(r)}, please")),
    (5, lambda r: finish(f"{r.choice(lexicon.NAMES)}, {_order(r)}")),
)


def command(rng: Random) -> str:
    """A request."""
    return weighted(rng, _COMMANDS)


def _two_clauses(rng: Random) -> str:
    comma = "," if rng.random() < 0.4 else ""
    return finish(f"{clause(rng)}{comma} {rng.choice(lexicon.CONJUNCTIONS)} {clause(rng)}")


def _reported(rng: Random) -> str:
    who = one(
        rng, "I think|I know|I believe|I hope|I guess|I see|we know|they think|you know|she said|he said|we heard"
    )
    return finish(f"{who}{one(rng, '| that')} {clause(rng)}")


def _listed(rng: Random) -> str:
    kind = rng.choice((lexicon.THINGS, lexicon.ANIMALS, lexicon.PEOPLE, lexicon.MASS))
    items = ", ".join(rng.choice(kind) for _ in range(rng.randint(2, 4)))
    opener = one(rng, "I need|we have|I see|there are|bring|buy|they sell")
    return finish(f"{opener} {items} and {rng.choice(kind)}")


_OPENERS: Final = (
    "well|yes|no|okay|so|of course|maybe|sorry|please|now|today|thank you|however|for example|at first|in fact|perhaps"
)
_EVERYDAY: Final[tuple[tuple[int, Maker], ...]] = (
    (45, lambda r: finish(clause(r), "!" if r.random() < 0.03 else ".")),
    (8, _two_clauses),
    (4, lambda r: finish(f"{one(r, 'if|when|because|after|before|although|while')} {clause(r)}, {clause(r)}")),
    (5, lambda r: finish(f"{one(r, _OPENERS)}, {clause(r)}")),
    (6, _reported),
    (4, _listed),
    (16, question),
    (12, command),
)


def everyday(rng: Random) -> str:
    """A sentence of general English."""
    return weighted(rng, _EVERYDAY)


def _about_age(rng: Random) -> str:
    who, person = subject(rng)
    return f"{who} {be(person)} about {spoken(rng.randint(2, 90))} {one(rng, 'years old|feet tall|minutes late')}"


def _compared(rng: Random) -> str:
    who, person = subject(rng)
    if rng.random() < 0.5:
        return f"{who} {be(person)} {rng.choice(lexicon.COMPARATIVES)} than {thing(rng)}"
    return f"{who} {be(person)} as {rng.choice(lexicon.ADJECTIVES)} as {thing(rng)}"


def _going_to(rng: Random) -> str:
    who, person = subject(rng)
    forms, what = verb(rng)
    return f"{who} {one(rng, be(person) + ' going to|used to')} {forms[0]}{what}"


def _talked_about(rng: Random) -> str:
    said = one(rng, "talked|thought|asked|knew|wrote|spoke|heard|read")
    return f"{subject(rng)[0]} {said} about {thing(rng)}"


def _there_are(rng: Random) -> str:
    if rng.random() < 0.5:
        return f"there {one(rng, 'is|was')} {article(described(rng))} {place(rng)}"
    return f"there {one(rng, 'are|were')} {spoken(rng.randint(2, 99))} {several(rng)} {place(rng)}"


def _is(rng: Random) -> str:
    return f"{be('he', rng.random() < 0.4)} {complement(rng)}"


_TURNS: Final[tuple[tuple[int, Maker], ...]] = (
    (1, lambda r: finish(_about_age(r))),
    (2, lambda r: finish(_compared(r))),
    (2, lambda r: finish(_going_to(r))),
    (2, lambda r: finish(_there_are(r))),
    (1, lambda r: finish(_talked_about(r))),
    (1, lambda r: finish(f"it takes about {spoken(r.randint(2, 60))} {r.choice(lexicon.UNITS)} to {_order(r)}")),
    (1, lambda r: finish(f"tell me {one(r, 'more|something|everything|a story')} about {thing(r)}")),
    (1, lambda r: finish(f"what do you {one(r, 'think|know')} about {thing(r)}", "?")),
    (1, lambda r: finish(f"I would like to {_order(r)}")),
    (1, lambda r: finish(f"would you like {thing(r)}", "?")),
    (1, lambda r: finish(f"one of {one(r, 'the|my|your|our')} {many(noun(r))} {_is(r)}")),
    (1, lambda r: finish(f"we need {thing(r)} with {one(r, 'the|some|no|only')} {r.choice(lexicon.MASS)}")),
    (1, lambda r: finish(f"the {noun(r)} of the {noun(r)} {_is(r)}")),
    (1, lambda r: finish(f"{r.choice(lexicon.NAMES)}'s {noun(r)} {_is(r)}")),
    (1, lambda r: finish(f"{verb(r)[0][4]} {thing(r)} is {r.choice(lexicon.ADJECTIVES)}")),
    (1, lambda r: finish(f"this is the {noun(r)} that {subject(r)[0]} {r.choice(lexicon.TRANSITIVE)[2]}")),
)


def common_turn(rng: Random) -> str:
    """A turn of phrase that the general clauses lack: about, than, as, there is, going to, used to."""
    return weighted(rng, _TURNS)


@functools.cache
def all_words() -> tuple[str, ...]:
    """Every word of the lexicon, in every form."""
    forms = [form for verb in (*lexicon.TRANSITIVE, *lexicon.INTRANSITIVE) for form in verb]
    nouns = [*lexicon.PEOPLE, *lexicon.ANIMALS, *lexicon.THINGS, *lexicon.ABSTRACT, *lexicon.PLACES]
    found = [
        *forms, *nouns, *map(many, nouns), *lexicon.MASS, *lexicon.ADJECTIVES, *lexicon.ADVERBS_MANNER,
        *lexicon.ADVERBS_FREQUENCY, *lexicon.ADVERBS_DEGREE, *lexicon.COMPARATIVES, *lexicon.PREPOSITIONS,
        *lexicon.CONJUNCTIONS, *lexicon.MONTHS, *lexicon.DAYS, *lexicon.NAMES, *lexicon.COUNTRIES, *lexicon.UNITS,
        *lexicon.NUMBER_WORDS, *lexicon.FUNCTION, *OBJECTS, *map(plural, OBJECTS), *COLOURS,
    ]  # fmt: skip
    return tuple(dict.fromkeys(found))


@functools.cache
def _plain_words() -> tuple[str, ...]:
    return tuple(word for word in all_words() if word not in lexicon.HOMOPHONES)


def random_words(rng: Random) -> str:
    """Words in no order: what is heard must come from the sound, not from what would be likely."""
    text = rng.choice(_plain_words())
    for _ in range(rng.randint(0, 8)):
        text += (", " if rng.random() < 0.08 else " ") + rng.choice(_plain_words())
    return finish(text, rng.choice("...?"))
