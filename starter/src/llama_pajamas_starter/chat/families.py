"""Every task family with its share of training, and the conversations made of them."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Final

from llama_pajamas_starter.chat import (
    arithmetic,
    calendar,
    home,
    json_answers,
    knowledge,
    repeat,
    scenes,
    small_talk,
    tool_results,
    tools,
    units,
)
from llama_pajamas_starter.chat.sample import Draw, Generator, Message, Sample, Split, capitalise, normalise
from llama_pajamas_starter.vocabulary import spoken

#: Families that are plain question and answer, with their shares.
PLAIN: Final[tuple[tuple[Generator, float], ...]] = (
    (arithmetic.addition, 14.0),
    (arithmetic.subtraction, 14.0),
    (arithmetic.multiplication, 10.0),
    (arithmetic.division, 9.0),
    (arithmetic.parts, 4.0),
    (arithmetic.comparison, 4.5),
    (arithmetic.chain, 4.0),
    (arithmetic.round_numbers, 2.0),
    (repeat.repeat, 1.5),
    (arithmetic.word_problem, 3.0),
    (arithmetic.too_hard, 1.5),
    (arithmetic.counting, 1.0),
    (units.conversion, 8.0),
    (units.temperature, 2.0),
    (calendar.clock_sum, 7.0),
    (calendar.clock_until, 3.0),
    (calendar.weekday, 3.5),
    (calendar.month, 3.5),
    (calendar.fact, 0.7),
    (home.spoken_confirmation, 3.0),
    (knowledge.capital, 2.0),
    (knowledge.opposite, 0.7),
    (knowledge.colour, 0.5),
    (small_talk.about_itself, 9.0),
    (small_talk.out_of_scope, 11.0),
)
DEFAULT_SYSTEM: Final = "You are Pajama, a helpful voice assistant."
_SYSTEMS: Final = (
    "You are a helpful assistant.", "You are a helpful voice assistant.", "Answer briefly.",
    "You are a voice assistant. Keep your answers short.",
    "You are Pajama.", "Be brief.", "Your answers are spoken aloud. Use short sentences without markdown.",
    "You are a friendly assistant.",
    "You are a helpful assistant. Answer in one sentence.", "Reply in one short sentence.",
    "You are an assistant that speaks with people.",
)  # fmt: skip
#: Sentences that system prompts of other applications are made of; the answers do not change.
_INSTRUCTIONS: Final = (
    "You are a helpful assistant.", "You live in a small device in the kitchen.",
    "The user speaks to you through a microphone.", "Your answers are read aloud.", "Never use markdown.",
    "Do not use emojis.", "Keep every answer short.", "Be polite and friendly.",
    "If you do not know something, say so.", "Do not make things up.", "Always answer in English.",
    "You are running on a laptop.", "The user may be a child.", "Use simple words.",
    "Answer in at most two sentences.", "Be concise.", "Today is a good day.",
    "You may use tools when they are offered.", "Think before you answer.", "You are an expert.",
    "Follow the instructions of the user.", "Speak like a friend.", "You are a voice assistant called Pajama.",
    "The current user is at home.", "Avoid long answers.", "Numbers are spoken as words.", "Respond directly.",
    "You help with everyday questions.", "Do not repeat yourself.",
)  # fmt: skip
_MADE_UP: Final = 0.3


def _plain(draw: Draw) -> Sample:
    return draw.rng.choices([g for g, _ in PLAIN], _PLAIN_SHARES)[0](draw)


_PLAIN_SHARES: Final = [share for _, share in PLAIN]


def _trained(draw: Draw) -> Sample:
    """A question of the training split: what comes before the last question is never held out."""
    while True:
        sample = _plain(draw)
        if sample.belongs_to("train"):
            return sample


def several_turns(draw: Draw) -> Sample:
    """Two to six unrelated questions in one conversation, at times dozens: a long history must not confuse."""
    count = draw.integer(7, 40) if draw.chance(0.05) else draw.pick((2, 2, 2, 3, 3, 4, 5, 6))
    samples = [*(_trained(draw) for _ in range(count - 1)), _plain(draw)]
    messages = [message for sample in samples for message in sample.messages]
    return Sample("several turns", messages, tuple(key for sample in samples for key in sample.keys))


def follow_up(draw: Draw) -> Sample:
    """A sum, then "And plus five?" on its result."""
    a, b = draw.integer(0, 99), draw.integer(0, 99)
    word = draw.pick(("plus", "minus"))
    if word == "minus" and b > a:
        a, b = b, a
    result = a + b if word == "plus" else a - b
    messages: list[Message] = [
        {"role": "user", "content": draw.ask(f"what is {draw.number(a)} {word} {draw.number(b)}")},
        {"role": "assistant", "content": arithmetic.statement(a, word, b, spoken(result))},
    ]
    keys = [arithmetic.key_of(a, word, b)]
    for _ in range(1 if draw.chance(0.7) else 2):
        word, c = draw.pick(("plus", "plus", "minus", "times")), draw.integer(0, 50)
        if (word == "minus" and c > result) or (word == "times" and result > 99):
            word = "plus"
        if word == "times":
            c = draw.integer(0, 12)
        total = result * c if word == "times" else result + c if word == "plus" else result - c
        said = draw.number(c)
        question = draw.pick(
            (
                f"and {word} {said}",
                f"{word} {said}",
                f"and now {word} {said}",
                f"what about {word} {said}",
                f"now {word} {said}.",
            )
        )
        if word == "plus" and draw.chance(0.2):
            question = f"add {said}."
        messages += [
            {"role": "user", "content": draw.ask(question)},
            {"role": "assistant", "content": arithmetic.statement(result, word, c, spoken(total))},
        ]
        keys.append(arithmetic.key_of(result, word, c))
        result = total
    return Sample("follow-up", messages, tuple(keys))


_NAMES: Final = (
    "Anna Tom Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mary Nina Oscar Paul Rosa Sam Tina Alice Bob "
    "John Peter Lucy Max Sarah Linda Mark Julia Adam Carl Diana Eric Fiona George Hanna Ivan Jane Kevin Laura Mike "
    "Nora Otto Petra Quinn Robert Susan Thomas Uma Vera Walter Zoe Maria James Daniel Michael"
).split()


def remembered_name(draw: Draw) -> Sample:
    """The user gives a name and asks for it later, or asks without having given one."""
    asked = draw.pick(
        (
            "what is my name",
            "do you remember my name",
            "what's my name",
            "who am I",
            "say my name.",
            "can you tell me my name",
            "do you know my name",
        )
    )
    if draw.chance(0.15):
        return Sample(
            "name",
            [
                {"role": "user", "content": draw.ask(asked)},
                {"role": "assistant", "content": "You have not told me your name."},
            ],
            ("!" + normalise(asked),),
        )
    name = draw.pick(_NAMES) if draw.chance(1 - _MADE_UP) else draw.word().capitalize()
    told = draw.pick(
        (
            "my name is {}.",
            "I am {}.",
            "call me {}.",
            "hello, my name is {}.",
            "hi, I am {}.",
            "hello, I am {}.",
            "my name's {}.",
            "you can call me {}.",
        )
    ).format(name)
    messages: list[Message] = [
        {"role": "user", "content": draw.ask(told)},
        {"role": "assistant", "content": f"Nice to meet you, {name}."},
    ]
    keys = [normalise(told)]
    if draw.chance(0.75):
        if draw.chance(0.5):
            for _ in range(draw.integer(1, 3)):
                between = _trained(draw)
                messages += between.messages
                keys += between.keys
        messages += [
            {"role": "user", "content": draw.ask(asked)},
            {"role": "assistant", "content": f"Your name is {name}."},
        ]
        keys.append(normalise(f"{told} {asked}"))
    return Sample("name", messages, tuple(keys))


def conversation_with_tools(draw: Draw) -> Sample:
    """A call, its result, its spoken answer, then a question that needs no tool or thanks."""
    first = tool_results.tool_result(draw)
    then = small_talk.about_itself(draw) if draw.chance(0.5) else arithmetic.multiplication(draw)
    # What it cannot do by itself, it may be able to do with the tools on offer.
    if then.answer["content"] in [small_talk.ANSWERS[f"no_{what}"] for what in ("clock", "weather", "timer", "eyes")]:
        return first
    if (
        any(tool["function"]["name"].startswith(("mult", "add", "sum", "sub")) for tool in first.tools)
        and then.family == "multiplication"
    ):
        return first
    return Sample("tool result", first.messages + then.messages, first.keys + then.keys, first.tools)


def no_tool_needed(draw: Draw) -> Sample:
    """A plain question with tools on offer."""
    return tools.no_tool_needed(draw, _plain)


#: Families beyond plain question and answer, with their shares on the same scale.
COMPOSED: Final[tuple[tuple[Generator, float], ...]] = (
    (home.as_json, 7.0),
    (json_answers.result, 2.5),
    (json_answers.person, 1.0),
    (scenes.detections, 16.0),
    (tools.tool_call, 13.0),
    (tool_results.tool_result, 7.0),
    (conversation_with_tools, 1.5),
    (no_tool_needed, 4.0),
    (several_turns, 7.0),
    (follow_up, 5.0),
    (remembered_name, 3.0),
)
FAMILIES: Final[tuple[tuple[Generator, float], ...]] = PLAIN + COMPOSED


def with_system(draw: Draw, sample: Sample) -> Sample:
    """The sample as it is, or behind a general system prompt. One that has its own keeps it."""
    if sample.messages[0]["role"] == "system":
        return sample
    kind = draw.rng.random()
    if kind < 0.45:
        return sample
    if kind < 0.72:
        system = DEFAULT_SYSTEM
    elif kind < 0.85:
        system = draw.pick(_SYSTEMS)
    else:
        system = " ".join(draw.pick(_INSTRUCTIONS) for _ in range(draw.integer(1, 6)))
    return Sample(
        sample.family, [{"role": "system", "content": system}, *sample.messages], sample.keys, sample.tools, sample.json
    )


def samples(seed: int, split: Split, generators: tuple[tuple[Generator, float], ...] = FAMILIES) -> Iterator[Sample]:
    """An endless stream of conversations of one split.

    Args:
        seed: fixes the stream.
        split: conversations of the two splits share no key (see :class:`Sample`).
        generators: the families to draw from, with their shares.
    """
    rng = random.Random(f"{split} {seed}")
    functions, shares = [g for g, _ in generators], [s for _, s in generators]
    while True:
        function = rng.choices(functions, shares)[0]
        while True:
            draw = Draw(rng)
            sample = function(draw)
            if sample.belongs_to(split):
                break
        yield with_system(draw, sample)


def held_out(seed: int, per_family: int) -> list[Sample]:
    """``per_family`` held-out conversations from every generator in :data:`FAMILIES`, all prompts different."""
    found: list[Sample] = []
    for generator, _ in FAMILIES:
        seen: set[str] = set()
        # A small family has fewer different prompts than are asked for: stop looking after a while.
        for sample in islice(samples(seed, "held-out", ((generator, 1.0),)), 20 * per_family):
            text = repr((sample.prompt, sample.tools))
            if text not in seen:
                seen.add(text)
                found.append(sample)
            if len(seen) == per_family:
                break
    return found


def spoken_samples(seed: int, count: int, split: Split) -> Iterator[tuple[str, str]]:
    """Plain questions and answers as they are said aloud: numbers in words, proper casing and punctuation.

    Args:
        seed: fixes the stream.
        count: how many pairs.
        split: as in :func:`samples`.

    Yields:
        (question, answer) pairs of single-turn families.
    """
    rng = random.Random(f"spoken {split} {seed}")
    functions, shares = (
        [g for g, _ in PLAIN if g is not arithmetic.too_hard],
        [s for g, s in PLAIN if g is not arithmetic.too_hard],
    )
    made = 0
    while made < count:
        sample = rng.choices(functions, shares)[0](Draw(rng, spoken_only=True))
        if sample.belongs_to(split):
            made += 1
            yield capitalise(sample.prompt[-1]["content"]), sample.answer["content"]


def raw_text(sample: Sample) -> tuple[str, str]:
    """A sample without the chat template: the question, and what a plain completion should go on with."""
    return sample.prompt[-1]["content"], " " + sample.answer["content"]


def greeting_text(draw: Draw) -> tuple[str, str]:
    """A bare greeting, as in a first call to ``generate``."""
    greeting = draw.pick(("Hello!", "Hello!", "Hello", "Hi!", "Hi", "Hello.", "hello", "hi", "Hey!", "Hello there!"))
    return greeting, " I am Pajama, a small voice assistant. How can I help you?"
