"""English sentences made by a grammar, and the rule that keeps training and held-out sentences apart.

Transcripts are written as the starter models write everything that is spoken: a capital first letter, full stop,
question mark, exclamation mark or comma, numbers in words with hyphens ("Twenty-three plus nineteen is forty-two.").
"""

import functools
import hashlib
import random
import re
from typing import Final, Literal

from llama_pajamas_starter.chat import families
from llama_pajamas_starter.chat.sample import Draw
from llama_pajamas_starter.speech import lexicon
from llama_pajamas_starter.vocabulary import COLOURS, DEVICES, OBJECTS, RELATIONS, ROOMS, plural, spoken

Split = Literal["train", "held-out"]
_Random = random.Random

#: One sentence in this many belongs to the held-out split.
HELD_OUT_ONE_IN: Final = 16

_VOWELS = tuple("aeiou")
_SILENT_H = ("honest", "hour")
_SPOKEN = re.compile(r"[A-Za-z](?:[A-Za-z' ,-]|[.?!](?= [A-Z]))*[.?!]")


def words_of(sentence: str) -> list[str]:
    """Lower-case words without punctuation; a hyphen parts words."""
    return re.findall(r"[a-z']+", sentence.lower())


def is_held_out(sentence: str) -> bool:
    """Whether the sentence belongs to the held-out split: a hash of its words, so case and punctuation do not matter.

    Sentences of one or two words ("Yes.") are in both splits: there are too few to hold any out.
    """
    words = words_of(sentence)
    if len(words) < 3:
        return False
    digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT_ONE_IN == 0


def sentence(rng: _Random, split: Split = "train") -> str:
    """A random sentence (sometimes two) of a split."""
    while True:
        family = rng.choices(_FAMILIES, _SHARES)[0]
        text = family(rng)
        if split == "held-out":
            if is_held_out(text):
                return text
        elif not any(is_held_out(part) for part in (text, *sentence_parts(text))):
            return text


def sentence_parts(text: str) -> list[str]:
    """The sentences that a text consists of."""
    return re.split(r"(?<=[.?!]) ", text)


def everyday(rng: _Random, split: Split = "train") -> str:
    """A random sentence of general English, none of the assistant's own."""
    while True:
        text = _everyday(rng)
        if is_held_out(text) == (split == "held-out"):
            return text


def _finish(text: str, mark: str = ".") -> str:
    return text[0].upper() + text[1:] + mark


def _article(noun_phrase: str) -> str:
    vowel = noun_phrase.startswith(_VOWELS) and not noun_phrase.startswith(("uni", "use", "usu", "uni", "one", "once"))
    return f"an {noun_phrase}" if vowel or noun_phrase.startswith(_SILENT_H) else f"a {noun_phrase}"


def _many(noun: str) -> str:
    irregular = {
        "man": "men", "woman": "women", "child": "children", "person": "people", "wife": "wives", "leaf": "leaves",
        "knife": "knives", "shelf": "shelves", "wolf": "wolves", "fish": "fish", "sheep": "sheep", "deer": "deer",
        "mouse": "mice", "goose": "geese", "gentleman": "gentlemen", "fisherman": "fishermen", "scissors": "scissors",
        "life": "lives", "half": "halves", "loaf": "loaves", "tomato": "tomatoes", "potato": "potatoes",
    }  # fmt: skip
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh", "z")) else "s")


def _noun(rng: _Random) -> str:
    return rng.choice(rng.choice((lexicon.PEOPLE, lexicon.ANIMALS, lexicon.THINGS, lexicon.THINGS, lexicon.ABSTRACT)))


def _adjectives(rng: _Random) -> str:
    if rng.random() < 0.5:
        return ""
    text = rng.choice(lexicon.ADJECTIVES) + " "
    if rng.random() < 0.15:
        text = rng.choice(lexicon.ADVERBS_DEGREE[:1] + lexicon.ADVERBS_DEGREE[1:3]) + " " + text
    return text


def _thing(rng: _Random) -> str:
    """An object's noun phrase."""
    pick = rng.random()
    if pick < 0.3:
        return "the " + _adjectives(rng) + _noun(rng)
    if pick < 0.5:
        return _article(_adjectives(rng) + _noun(rng))
    if pick < 0.65:
        return rng.choice(("my", "your", "his", "her", "our", "their", "its")) + " " + _adjectives(rng) + _noun(rng)
    if pick < 0.75:
        return spoken(rng.randint(2, 120)) + " " + _adjectives(rng) + _many(_noun(rng))
    if pick < 0.83:
        quantity = rng.choice(
            ("the", "some", "many", "all the", "a few", "several", "no", "these", "those", "most of the", "both")
        )
        return f"{quantity} {_adjectives(rng)}{_many(_noun(rng))}"
    if pick < 0.9:
        return (
            rng.choice(("some", "the", "more", "less", "a little", "enough", "no", "much"))
            + " "
            + rng.choice(lexicon.MASS)
        )
    if pick < 0.95:
        return (
            rng.choice(("this", "that", "every", "another", "each", "the other", "the same"))
            + " "
            + _adjectives(rng)
            + _noun(rng)
        )
    return rng.choice(
        ("it", "them", "him", "her", "us", "me", "everything", "something", "nothing", "anything", "this", "that")
    )


def _place(rng: _Random) -> str:
    pick = rng.random()
    if pick < 0.6:
        return f"{rng.choice(lexicon.PREPOSITIONS)} the {_adjectives(rng)}{rng.choice(lexicon.PLACES)}"
    if pick < 0.8:
        return f"{rng.choice(lexicon.PREPOSITIONS)} the {rng.choice(lexicon.THINGS)}"
    if pick < 0.95:
        return f"{rng.choice(('in', 'to', 'from', 'near'))} {rng.choice(lexicon.COUNTRIES)}"
    return rng.choice(
        ("here", "there", "outside", "inside", "upstairs", "downstairs", "at home", "at work", "everywhere", "far away")
    )


def _subject(rng: _Random) -> tuple[str, str]:
    """A subject and its person: "I", "you" (also plural) or "he"."""
    pick = rng.random()
    if pick < 0.12:
        return "I", "I"
    if pick < 0.32:
        return rng.choice(("you", "we", "they")), "you"
    if pick < 0.5:
        return rng.choice(("he", "she", "it")), "he"
    if pick < 0.64:
        return rng.choice(lexicon.NAMES), "he"
    if pick < 0.8:
        determiner = rng.choice(("the", "my", "your", "his", "her", "our", "their", "this", "that", "every", "no"))
        return f"{determiner} {_adjectives(rng)}{_noun(rng)}", "he"
    if pick < 0.9:
        return (
            f"{rng.choice(('the', 'some', 'many', 'most', 'all', 'these', 'my', 'our'))} {_adjectives(rng)}{_many(_noun(rng))}",
            "you",
        )
    if pick < 0.95:
        return f"{rng.choice(lexicon.NAMES)} and {rng.choice(lexicon.NAMES)}", "you"
    return rng.choice(
        ("everyone", "someone", "nobody", "everybody", "somebody", "nothing", "everything", "this", "that")
    ), "he"


def _verb(rng: _Random) -> tuple[tuple[str, ...], str]:
    """A verb's five forms and its object (or none)."""
    if rng.random() < 0.68:
        return rng.choice(lexicon.TRANSITIVE), " " + _thing(rng)
    return rng.choice(lexicon.INTRANSITIVE), ""


def _be(person: str, past: bool) -> str:
    if past:
        return "were" if person == "you" else "was"
    return {"I": "am", "you": "are", "he": "is"}[person]


def _complement(rng: _Random) -> str:
    pick = rng.random()
    if pick < 0.55:
        degree = rng.choice(lexicon.ADVERBS_DEGREE) + " " if rng.random() < 0.3 else ""
        return degree + rng.choice(lexicon.ADJECTIVES)
    if pick < 0.8:
        return _article(_adjectives(rng) + _noun(rng))
    if pick < 0.9:
        return _place(rng)
    return f"{rng.choice(lexicon.ADJECTIVES)} and {rng.choice(lexicon.ADJECTIVES)}"


def _clause(rng: _Random) -> str:
    subject, person = _subject(rng)
    pick = rng.random()
    if pick < 0.2:
        negation = rng.choice(("", "", "", " not", " never", " always", " still", " really"))
        return f"{subject} {_be(person, rng.random() < 0.4)}{negation} {_complement(rng)}"
    forms, thing = _verb(rng)
    if pick < 0.4:
        verb = forms[1] if person == "he" else forms[0]
        if rng.random() < 0.25:
            verb = rng.choice(lexicon.ADVERBS_FREQUENCY) + " " + verb
    elif pick < 0.58:
        verb = forms[2]
    elif pick < 0.68:
        verb = (
            rng.choice(
                (
                    "will",
                    "can",
                    "should",
                    "must",
                    "might",
                    "could",
                    "would",
                    "may",
                    "cannot",
                    "won't",
                    "can't",
                    "will not",
                )
            )
            + " "
            + forms[0]
        )
    elif pick < 0.78:
        verb = f"{_be(person, rng.random() < 0.4)} {forms[4]}"
    elif pick < 0.86:
        verb = f"{'has' if person == 'he' else 'have'} {rng.choice(('', '', 'already ', 'never ', 'just ', 'not '))}{forms[3]}"
    elif pick < 0.94:
        verb = f"{rng.choice(('does not', 'doesn' + chr(39) + 't') if person == 'he' else ('do not', 'don' + chr(39) + 't'))} {forms[0]}"
        if rng.random() < 0.5:
            verb = rng.choice(("did not", "didn't")) + " " + forms[0]
    else:
        wants = rng.choice(
            (
                ("wants", "want"),
                ("needs", "need"),
                ("likes", "like"),
                ("tries", "try"),
                ("has", "have"),
                ("hopes", "hope"),
                ("plans", "plan"),
            )
        )
        verb = f"{wants[0] if person == 'he' else wants[1]} to {forms[0]}"
    tail = ""
    if rng.random() < 0.35:
        tail += " " + _place(rng)
    if rng.random() < 0.12:
        tail += " " + rng.choice(lexicon.ADVERBS_MANNER)
    if rng.random() < 0.28:
        tail += " " + rng.choice(lexicon.TIMES)
    return f"{subject} {verb}{thing}{tail}"


def _question(rng: _Random) -> str:
    forms, thing = _verb(rng)
    subject, person = _subject(rng)
    pick = rng.random()
    time = " " + rng.choice(lexicon.TIMES) if rng.random() < 0.3 else ""
    if pick < 0.25:
        auxiliary = rng.choice(("does" if person == "he" else "do", "did", "can", "will", "should", "could", "would"))
        return _finish(f"{auxiliary} {subject} {forms[0]}{thing}{time}", "?")
    if pick < 0.45:
        word = rng.choice(("why", "when", "where", "how", "how often", "how long", "what time"))
        auxiliary = rng.choice(("does" if person == "he" else "do", "did", "can", "will", "should"))
        return _finish(f"{word} {auxiliary} {subject} {forms[0]}{thing}{time}", "?")
    if pick < 0.58:
        return _finish(f"{_be(person, rng.random() < 0.4)} {subject} {_complement(rng)}", "?")
    if pick < 0.68:
        return _finish(
            f"{rng.choice(('where', 'who', 'what', 'how', 'why'))} {_be(person, rng.random() < 0.4)} {subject}", "?"
        )
    if pick < 0.78:
        auxiliary = "does" if person == "he" else "do"
        return _finish(f"what {auxiliary} {subject} {rng.choice(lexicon.TRANSITIVE)[0]}{time}", "?")
    if pick < 0.86:
        return _finish(
            f"how many {_many(_noun(rng))} {rng.choice(('are there', 'do you have', 'did you see', 'do we need'))}{' ' + _place(rng) if rng.random() < 0.4 else ''}",
            "?",
        )
    if pick < 0.93:
        return _finish(
            f"{rng.choice(('is there', 'do you have', 'can I have', 'have you seen', 'who has'))} {_thing(rng)}{' ' + _place(rng) if rng.random() < 0.5 else ''}",
            "?",
        )
    return _finish(
        f"which {rng.choice(lexicon.THINGS + lexicon.ABSTRACT)} {_be('he', rng.random() < 0.3)} {rng.choice(lexicon.ADJECTIVES)}",
        "?",
    )


def _command(rng: _Random) -> str:
    forms, thing = _verb(rng)
    text = forms[0] + thing
    if rng.random() < 0.3:
        text += " " + _place(rng)
    if rng.random() < 0.2:
        text += " " + rng.choice(lexicon.TIMES)
    pick = rng.random()
    if pick < 0.2:
        text = "please " + text
    elif pick < 0.35:
        text = rng.choice(("do not ", "don't ", "never ", "let's ", "let us ", "always ")) + text
    elif pick < 0.45:
        return _finish(rng.choice(("can you ", "could you ", "would you ", "will you please ")) + text, "?")
    elif pick < 0.52:
        text += ", please"
    elif pick < 0.57:
        text = f"{rng.choice(lexicon.NAMES)}, {text}"
    return _finish(text, "!" if rng.random() < 0.05 else ".")


def _everyday(rng: _Random) -> str:
    pick = rng.random()
    if pick < 0.45:
        return _finish(_clause(rng), "!" if rng.random() < 0.03 else ".")
    if pick < 0.57:
        joined = f"{_clause(rng)}{',' if rng.random() < 0.4 else ''} {rng.choice(lexicon.CONJUNCTIONS)} {_clause(rng)}"
        if rng.random() < 0.3:
            joined = f"{rng.choice(('if', 'when', 'because', 'after', 'before', 'although', 'while'))} {_clause(rng)}, {_clause(rng)}"
        return _finish(joined)
    if pick < 0.62:
        opener = rng.choice(
            (
                "well",
                "yes",
                "no",
                "okay",
                "so",
                "of course",
                "maybe",
                "sorry",
                "please",
                "now",
                "today",
                "thank you",
                "however",
                "for example",
                "at first",
                "in fact",
                "perhaps",
            )
        )
        return _finish(f"{opener}, {_clause(rng)}")
    if pick < 0.68:
        verb = rng.choice(("think", "know", "believe", "hope", "said", "heard", "guess", "see", "feel", "remember"))
        return _finish(
            f"{rng.choice(('I', 'we', 'they', 'you', 'she', 'he') if verb in ('said', 'heard') else ('I', 'we', 'they', 'you'))} {verb}{' that' if rng.random() < 0.5 else ''} {_clause(rng)}"
        )
    if pick < 0.72:
        kind = rng.choice((lexicon.THINGS, lexicon.ANIMALS, lexicon.PEOPLE, lexicon.MASS))
        items = [rng.choice(kind) for _ in range(rng.randint(2, 4))]
        return _finish(
            f"{rng.choice(('I need', 'we have', 'I see', 'there are', 'bring', 'buy', 'they sell'))} {', '.join(items)} and {rng.choice(kind)}"
        )
    if pick < 0.88:
        return _question(rng)
    return _command(rng)


_COMPARATIVES: Final = (
    "bigger smaller taller shorter longer faster slower older younger newer higher lower better worse easier harder "
    "cheaper warmer colder stronger weaker brighter darker louder quieter heavier lighter nicer happier richer safer"
).split()


def _common_turns(rng: _Random) -> str:
    """Turns of phrase that the general clauses lack: about, than, as, there is, going to, used to."""
    subject, person = _subject(rng)
    forms, thing = _verb(rng)
    noun, place = _thing(rng), _place(rng)
    be = _be(person, rng.random() < 0.3)
    ones = ("wants", "likes", "needs") if person == "he" else ("want", "like", "need")
    return rng.choice(
        (
            lambda: _finish(
                f"{subject} {be} about {spoken(rng.randint(2, 90))} {rng.choice(('years old', 'feet tall', 'minutes late'))}"
            ),
            lambda: _finish(f"{subject} {be} {rng.choice(_COMPARATIVES)} than {noun}"),
            lambda: _finish(f"{subject} {be} as {rng.choice(lexicon.ADJECTIVES)} as {noun}"),
            lambda: _finish(f"{subject} {be} going to {forms[0]}{thing}"),
            lambda: _finish(f"{subject} used to {forms[0]}{thing}"),
            lambda: _finish(f"there {rng.choice(('is', 'was'))} {_article(_adjectives(rng) + _noun(rng))} {place}"),
            lambda: _finish(
                f"there {rng.choice(('are', 'were'))} {spoken(rng.randint(2, 99))} {_many(_noun(rng))} {place}"
            ),
            lambda: _finish(
                f"it takes about {spoken(rng.randint(2, 60))} {rng.choice(lexicon.UNITS)} to {forms[0]}{thing}"
            ),
            lambda: _finish(f"tell me {rng.choice(('more', 'something', 'everything', 'a story'))} about {noun}"),
            lambda: _finish(f"what do you {rng.choice(('think', 'know'))} about {noun}", "?"),
            lambda: _finish(
                f"{subject} {rng.choice(('talked', 'thought', 'asked', 'knew', 'wrote', 'spoke', 'heard', 'read'))} about {noun}"
            ),
            lambda: _finish(f"I would like to {forms[0]}{thing}"),
            lambda: _finish(f"would you like {noun}", "?"),
            lambda: _finish(
                f"one of {rng.choice(('the', 'my', 'your', 'our'))} {_many(_noun(rng))} {_be('he', rng.random() < 0.4)} {_complement(rng)}"
            ),
            lambda: _finish(
                f"{subject} {ones[0]} {noun} with {rng.choice(('a', 'the', 'some', 'no', 'about', 'only'))} {rng.choice(lexicon.MASS)}"
            ),
            lambda: _finish(f"if I {be.replace('is', 'were')} you, I would {forms[0]}{thing}"),
            lambda: _finish(f"the {_noun(rng)} of the {_noun(rng)} {_be('he', rng.random() < 0.4)} {_complement(rng)}"),
            lambda: _finish(
                f"{rng.choice(lexicon.NAMES)}'s {_noun(rng)} {_be('he', rng.random() < 0.4)} {_complement(rng)}"
            ),
            lambda: _finish(f"{forms[4]}{thing} {_be('he', False)} {rng.choice(lexicon.ADJECTIVES)}"),
            lambda: _finish(f"this is the {_noun(rng)} that {subject} {forms[2]}"),
            lambda: _finish(f"the more {subject} {forms[2]}, the {rng.choice(_COMPARATIVES)} it was"),
        )
    )()


#: Words that sound like another one of the lexicon: which one is meant, only the sentence tells.
_HOMOPHONES: Final = frozenset(
    """
    there their they're to too two for four I eye hour our no know right write see sea son sun week weak here hear buy by
    bye new knew wood would whole hole red read meet meat one won eight ate whose who's its it's your you're through threw
    where wear were we're some sum pear pair piece peace plain plane sale sell road rode rowed male mail made maid tail
    tale be bee flour flower deer dear sent cent cents scent past passed principal principle ring knight night not knot
    weight wait way weigh weather whether which witch blue blew bored board bare bear brake break fair fare great heal
    heel higher hire lead led loan alone rose rows role roll root route steal steel stair stare than then vary very waist
    waste aloud allowed ant aunt aren't hers hi high oh owe or ore poor pour pore sore soar tied tide toe tow sees seas
    seize writes rights reads reeds sons suns fined find minor miner mind mined mist missed guest guessed days daze tax
    tacks packs pact tents tense mince mints princes prints prince hymn him cell cells sells seller cellar sellers
    """.split()
)


@functools.cache
def _all_words() -> tuple[str, ...]:
    forms = [form for verb in (*lexicon.TRANSITIVE, *lexicon.INTRANSITIVE) for form in verb]
    nouns = [*lexicon.PEOPLE, *lexicon.ANIMALS, *lexicon.THINGS, *lexicon.ABSTRACT, *lexicon.PLACES]
    words = [
        *forms, *nouns, *map(_many, nouns), *lexicon.MASS, *lexicon.ADJECTIVES, *lexicon.ADVERBS_MANNER,
        *lexicon.ADVERBS_FREQUENCY, *lexicon.ADVERBS_DEGREE, *lexicon.PREPOSITIONS, *lexicon.CONJUNCTIONS,
        *lexicon.MONTHS, *lexicon.DAYS, *lexicon.NAMES, *lexicon.COUNTRIES, *lexicon.UNITS, *lexicon.NUMBER_WORDS,
        *lexicon.FUNCTION, *OBJECTS, *map(plural, OBJECTS), *COLOURS,
    ]  # fmt: skip
    return tuple(dict.fromkeys(words))


@functools.cache
def _plain_words() -> tuple[str, ...]:
    return tuple(word for word in _all_words() if word not in _HOMOPHONES)


def _random_words(rng: _Random) -> str:
    """Words in no order: what is heard must come from the sound, not from what would be likely."""
    words = [rng.choice(_plain_words()) for _ in range(rng.randint(1, 9))]
    text = words[0]
    for word in words[1:]:
        text += (", " if rng.random() < 0.08 else " ") + word
    return _finish(text, rng.choice("...?"))


def _number(rng: _Random) -> str:
    return spoken(
        rng.choice(
            (rng.randint(0, 20), rng.randint(0, 100), rng.randint(0, 100), rng.randint(0, 999), rng.randint(0, 9999))
        )
    )


def _arithmetic(rng: _Random) -> str:
    operation = f"{_number(rng)} {rng.choice(('plus', 'plus', 'minus', 'minus', 'times', 'times', 'divided by', 'multiplied by'))} {_number(rng)}"
    pick = rng.random()
    if pick < 0.4:
        return _finish(
            f"{operation} {rng.choice(('is', 'is', 'is', 'equals', 'makes'))} {rng.choice(('', '', '', '', 'minus '))}{_number(rng)}"
        )
    if pick < 0.75:
        form = rng.choice(
            ("what is {}", "what's {}", "how much is {}", "can you tell me {}", "do you know {}", "please, what is {}")
        )
        return _finish(form.format(operation), "?")
    if pick < 0.85:
        return _finish(
            rng.choice(("calculate {}", "tell me {}", "work out {}", "the answer to {} is " + _number(rng))).format(
                operation
            )
        )
    form = rng.choice(
        (
            f"add {_number(rng)} and {_number(rng)}", f"add {_number(rng)} to {_number(rng)}",
            f"subtract {_number(rng)} from {_number(rng)}", f"multiply {_number(rng)} by {_number(rng)}",
            f"divide {_number(rng)} by {_number(rng)}", f"half of {_number(rng)} is {_number(rng)}",
            f"twice {_number(rng)} is {_number(rng)}", f"{_number(rng)} point {_number(rng)}",
            f"the number is {_number(rng)}", f"count from {_number(rng)} to {_number(rng)}",
            f"{_number(rng)} is {rng.choice(('more', 'less', 'bigger', 'smaller', 'greater'))} than {_number(rng)}",
            f"{_number(rng)} percent of {_number(rng)} is {_number(rng)}",
        )
    )  # fmt: skip
    return _finish(form)


def _units(rng: _Random) -> str:
    a, b = rng.choice(lexicon.UNITS), rng.choice(lexicon.UNITS)
    return rng.choice(
        (
            lambda: f"How many {a} are in {_number(rng)} {b}?",
            lambda: f"How many {a} are there in {_number(rng)} {b}?",
            lambda: (
                f"{_finish(_number(rng), '')} {a} {rng.choice(('is', 'are', 'equals', 'make'))} {_number(rng)} {b}."
            ),
            lambda: f"Convert {_number(rng)} {a} to {b}.",
            lambda: f"What is {_number(rng)} {a} in {b}?",
            lambda: f"There are {_number(rng)} {a} in {_article(b.rstrip('s'))}.",
            lambda: f"It weighs {_number(rng)} {a}.",
            lambda: f"It costs {_number(rng)} {rng.choice(('dollars', 'euros', 'cents', 'pounds'))}.",
            lambda: f"{_finish(_number(rng), '')} point {_number(rng)} {a}.",
        )
    )()


def _clock(rng: _Random) -> str:
    hour, minute = spoken(rng.randint(1, 12)), rng.randint(0, 59)
    return rng.choice(
        (
            lambda: f"{hour} o'clock",
            lambda: f"{hour} {spoken(minute)}" if minute > 9 else f"{hour} oh {spoken(max(1, minute))}",
            lambda: f"half past {hour}",
            lambda: f"quarter {rng.choice(('past', 'to'))} {hour}",
            lambda: (
                f"{spoken(rng.randint(1, 30))} {rng.choice(('minutes ', ''))}{rng.choice(('past', 'to', 'after', 'before'))} {hour}"
            ),
            lambda: f"{hour} {rng.choice(('in the morning', 'in the afternoon', 'in the evening', 'at night'))}",
            lambda: "noon",
            lambda: "midnight",
        )
    )()


def _ordinal(rng: _Random) -> str:
    return rng.choice(
        [word for word in lexicon.NUMBER_WORDS if word not in ("once", "twice", "half", "quarter", "dozen")]
    )


def _time_and_date(rng: _Random) -> str:
    day, month = rng.choice(lexicon.DAYS), rng.choice(lexicon.MONTHS)
    amount = f"{_number(rng)} {rng.choice(('minutes', 'hours', 'seconds', 'days', 'weeks', 'months', 'years'))}"
    return rng.choice(
        (
            lambda: f"It is {_clock(rng)}.",
            lambda: f"The time is {_clock(rng)}.",
            lambda: f"What time is it {amount} after {_clock(rng)}?",
            lambda: f"It is {_clock(rng)}. What time will it be in {amount}?",
            lambda: f"What is {amount} {rng.choice(('after', 'before'))} {_clock(rng)}?",
            lambda: f"What day is it {amount} {rng.choice(('after', 'before'))} {day}?",
            lambda: f"What day comes {rng.choice(('after', 'before'))} {day}?",
            lambda: f"Today is {day}, {month} {_ordinal(rng)}.",
            lambda: f"It will be {day} in {amount}.",
            lambda: f"{month} has {spoken(rng.randint(28, 31))} days.",
            lambda: f"How many days are in {month}?",
            lambda: f"Which month comes {rng.choice(('after', 'before'))} {month}?",
            lambda: f"The meeting is on {day} at {_clock(rng)}.",
            lambda: f"Wake me up at {_clock(rng)}.",
            lambda: f"Set an alarm for {_clock(rng)}.",
            lambda: f"Set a timer for {amount}.",
            lambda: f"My birthday is on the {_ordinal(rng)} of {month}.",
            lambda: f"{day} comes {rng.choice(('after', 'before'))} {rng.choice(lexicon.DAYS)}.",
            lambda: f"In {amount} it will be {_clock(rng)}.",
            lambda: f"How long is it from {_clock(rng)} to {_clock(rng)}?",
            lambda: f"There are {amount} in {amount}.",
        )
    )()


_DOING: Final = {
    "turn_on": ("turn on {}", "switch on {}", "turn {} on", "start {}"),
    "turn_off": ("turn off {}", "switch off {}", "turn {} off", "stop {}"),
    "dim": ("dim {}", "make {} darker"),
    "brighten": ("brighten {}", "make {} brighter"),
    "open": ("open {}",),
    "close": ("close {}", "shut {}"),
    "lock": ("lock {}",),
    "unlock": ("unlock {}",),
}
_STATE: Final = ("on", "off", "open", "closed", "locked", "unlocked", "dimmed", "brighter", "darker")


def _home(rng: _Random) -> str:
    device = rng.choice(tuple(DEVICES))
    room = rng.choice(ROOMS)
    where = rng.choice(
        (f"the {device} in the {room}", f"the {room} {device}", f"the {device}", f"all the {device.rstrip('s')}s")
    )
    action = rng.choice(_DOING[rng.choice(DEVICES[device])]).format(where)
    be = "are" if device == "blinds" or where.startswith("all") else "is"
    pick = rng.random()
    if pick < 0.4:
        return _finish(action)
    if pick < 0.5:
        return _finish(f"{rng.choice(('please', 'I want you to', 'I would like you to', 'go and'))} {action}")
    if pick < 0.6:
        return _finish(f"{rng.choice(('can you', 'could you', 'would you', 'will you'))} {action}", "?")
    if pick < 0.67:
        return _finish(f"{action} {rng.choice(('please', 'for me', 'now', 'right now'))}")
    if pick < 0.72:
        return _finish(f"set {where} to {_number(rng)} {rng.choice(('percent', 'degrees'))}")
    if pick < 0.76:
        return _finish(f"{be} {where} {rng.choice(_STATE)}", "?")
    return _finish(f"{where} {be} {rng.choice(('', '', 'now ', 'already '))}{rng.choice(_STATE)}")


def _seen(rng: _Random) -> str:
    thing = rng.choice(OBJECTS)
    if rng.random() < 0.35:
        thing = f"{rng.choice(tuple(COLOURS))} {thing}"
    count = rng.choices((1, 2, 3, 4, 5, 6, 7), (8, 4, 3, 2, 1, 1, 1))[0]
    return _article(thing) if count == 1 else f"{spoken(count)} {plural(thing)}"


def _detection(rng: _Random) -> str:
    thing, other = rng.choice(OBJECTS), rng.choice(OBJECTS)
    items = [_seen(rng) for _ in range(rng.randint(1, 4))]
    listed = items[0] if len(items) == 1 else f"{', '.join(items[:-1])}{rng.choice(('', ','))} and {items[-1]}"
    return rng.choice(
        (
            lambda: f"I see {listed}.",
            lambda: f"I see {listed}.",
            lambda: f"I can see {listed} in the picture.",
            lambda: f"There {rng.choice(('is', 'are'))} {listed}.",
            lambda: f"In the picture there is {listed}.",
            lambda: f"The {thing} is {rng.choice(RELATIONS)} the {other}.",
            lambda: (
                f"A {rng.choice(tuple(COLOURS))} {thing} is {rng.choice(RELATIONS)} a {rng.choice(tuple(COLOURS))} {other}."
            ),
            lambda: f"How many {plural(thing)} are there?",
            lambda: f"How many {plural(thing)} do you see?",
            lambda: f"Is there {_article(thing)} in the picture?",
            lambda: f"What colour is the {thing}?",
            lambda: f"The {thing} is {rng.choice(tuple(COLOURS))}.",
            lambda: f"There are no {plural(thing)}.",
            lambda: f"Yes, I see {_seen(rng)}.",
            lambda: f"No, I do not see {_article(thing)}.",
            lambda: f"Where is the {thing}?",
        )
    )()


def _phrase(rng: _Random) -> str:
    text = rng.choice(lexicon.PHRASES)
    if rng.random() < 0.25:
        text += " " + rng.choice((rng.choice(lexicon.PHRASES), _everyday(rng)))
    return text


def _chat(rng: _Random) -> str:
    """What people say to the starter assistant, and what it answers, from the generators that train it."""
    for _ in range(20):
        generator = rng.choices([generator for generator, _ in families.PLAIN], [share for _, share in families.PLAIN])[
            0
        ]
        sample = generator(Draw(rng, spoken_only=True))
        texts = [message["content"] for message in sample.messages if isinstance(message.get("content"), str)]
        texts = [text for text in texts if _SPOKEN.fullmatch(text)]
        if texts:
            return rng.choice(texts)
    return _arithmetic(rng)


_FAMILIES: Final = (
    _common_turns,
    _everyday,
    _random_words,
    _arithmetic,
    _units,
    _time_and_date,
    _home,
    _detection,
    _phrase,
    _chat,
)
_SHARES: Final = (8, 30, 10, 8, 5, 7, 6, 7, 5, 15)
