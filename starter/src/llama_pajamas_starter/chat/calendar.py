"""Times of day, days of the week, months and the facts of the calendar."""

from typing import Final

from llama_pajamas_starter.chat.sample import Draw, Sample, capitalise, turn
from llama_pajamas_starter.vocabulary import spoken

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = {
    "January": 31, "February": 28, "March": 31, "April": 30, "May": 31, "June": 30,
    "July": 31, "August": 31, "September": 30, "October": 31, "November": 30, "December": 31,
}  # fmt: skip
_ORDINALS: Final = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_NAMES: Final = tuple(MONTHS)
#: (how it is asked, the answer)
FACTS: Final = (
    ("days are in a week", "One week is seven days."),
    ("months are in a year", "One year is twelve months."),
    ("weeks are in a year", "One year is fifty-two weeks."),
    ("hours are in a day", "One day is twenty-four hours."),
    ("minutes are in an hour", "One hour is sixty minutes."),
    ("seconds are in a minute", "One minute is sixty seconds."),
    ("days are in a year", "One year is three hundred sixty-five days."),
    ("days are in a leap year", "One leap year is three hundred sixty-six days."),
    ("years are in a century", "One century is one hundred years."),
    ("years are in a decade", "One decade is ten years."),
)


def clock(minutes: int) -> str:
    """A time of day in words on a twelve-hour clock: "half past three", "twenty-three minutes to four".

    Args:
        minutes: since midnight; any integer, taken modulo twelve hours.
    """
    hour, minute = divmod(minutes % 720, 60)
    this, following = spoken(hour or 12), spoken(hour % 12 + 1)
    if minute == 0:
        return f"{this} o'clock"
    if minute in (15, 45):
        return f"quarter past {this}" if minute == 15 else f"quarter to {following}"
    if minute == 30:
        return f"half past {this}"
    left = minute if minute < 30 else 60 - minute
    words = spoken(left) + ("" if minute % 5 == 0 else " minute" if left == 1 else " minutes")
    return f"{words} past {this}" if minute < 30 else f"{words} to {following}"


def _said(draw: Draw, minutes: int) -> str:
    """A time as the user may put it."""
    hour, minute = divmod(minutes % 720, 60)
    hour = hour or 12
    if draw.digits and draw.chance(0.7):
        return f"{hour}:{minute:02d}"
    if minute and draw.chance(0.2):
        return f"{spoken(hour)} {'oh ' if minute < 10 else ''}{spoken(minute)}"
    words = clock(minutes)
    return f"a {words}" if words.startswith("quarter") and draw.chance(0.4) else words


def duration(minutes: int) -> str:
    """A length of time in words: "two hours", "one hour and ten minutes"."""
    hours, rest = divmod(minutes, 60)
    parts = []
    if hours:
        parts.append(f"{spoken(hours)} hour" + ("s" if hours > 1 else ""))
    if rest:
        parts.append(f"{spoken(rest)} minute" + ("s" if rest > 1 else ""))
    return " and ".join(parts)


def _said_duration(draw: Draw, minutes: int) -> str:
    if minutes == 30 and draw.chance(0.5):
        return "half an hour"
    if minutes == 60 and draw.chance(0.5):
        return "an hour"
    hours, rest = divmod(minutes, 60)
    if draw.digits and (not hours or not rest):
        return f"{hours} hour{'s' if hours > 1 else ''}" if hours else f"{rest} minutes"
    return duration(minutes)


def clock_sum(draw: Draw) -> Sample:
    """The time some hours or minutes after or before another."""
    start = 5 * draw.integer(0, 143)
    length = 60 * draw.integer(1, 11) if draw.chance(0.5) else 5 * draw.integer(1, 11)
    if draw.chance(0.1):
        length = 60 * draw.integer(1, 3) + 5 * draw.integer(1, 11)
    said, time = _said_duration(draw, length), _said(draw, start)
    if draw.chance(0.65):
        question = draw.pick(
            (f"what time is it {said} after {time}", f"if it is {time}, what time will it be in {said}",
             f"what time comes {said} after {time}", f"it is {time}. What time is it in {said}",
             f"what is {said} after {time}",
             f"what is {time} plus {said}", f"what time is it {said} later than {time}")
        )  # fmt: skip
        answer = f"{capitalise(duration(length))} after {clock(start)} is {clock(start + length)}."
    else:
        question = draw.pick(
            (f"what time is it {said} before {time}", f"if it is {time}, what time was it {said} ago",
             f"what time was it {said} before {time}", f"what is {said} before {time}", f"what is {time} minus {said}")
        )  # fmt: skip
        answer = f"{capitalise(duration(length))} before {clock(start)} is {clock(start - length)}."
    return turn(draw, "clock", question, answer)


def clock_until(draw: Draw) -> Sample:
    """Minutes to the next hour, or between two times less than an hour apart."""
    start = 5 * draw.integer(0, 143)
    if draw.chance(0.5):
        start += 0 if start % 60 else 5
        left = 60 - start % 60
        time, end = _said(draw, start), clock(start + left)
        question = draw.pick(
            (f"how many minutes is it until the next hour at {time}",
            f"it is {time}. How many minutes to the next hour",
             f"how long is it from {time} to the next full hour", f"how many minutes from {time} to the next hour")
        )  # fmt: skip
        return turn(draw, "clock", question, f"From {clock(start)} to {end} is {duration(left)}.")
    length = 5 * draw.integer(1, 11)
    first, second = _said(draw, start), _said(draw, start + length)
    question = draw.pick(
        (f"how many minutes are there from {first} to {second}", f"how long is it from {first} to {second}",
         f"how many minutes are between {first} and {second}")
    )  # fmt: skip
    return turn(draw, "clock", question, f"From {clock(start)} to {clock(start + length)} is {duration(length)}.")


def weekday(draw: Draw) -> Sample:
    """Days of the week, counted forwards and backwards."""
    today = draw.integer(0, 6)
    name, kind = DAYS[today], draw.integer(0, 5)
    following, previous = DAYS[(today + 1) % 7], DAYS[today - 1]
    if kind == 0:
        question = draw.pick(
            ("what day comes after {}", "if today is {}, what day is tomorrow", "what is the day after {}",
            "which day follows {}",
             "today is {}. What day is tomorrow", "what day is after {}", "which day comes after {}")
        )  # fmt: skip
        return turn(draw, "days", question.format(name), f"The day after {name} is {following}.")
    if kind == 1:
        question = draw.pick(
            ("what day comes before {}", "if today is {}, what day was yesterday", "what is the day before {}",
             "today is {}. What day was yesterday", "what day is before {}", "which day comes before {}")
        )  # fmt: skip
        return turn(draw, "days", question.format(name), f"The day before {name} is {previous}.")
    if kind == 2 and draw.chance(0.15):
        ahead = draw.chance(0.5)
        asked = "is the day after tomorrow" if ahead else "was the day before yesterday"
        question = f"if today is {name}, what day {asked}"
        answer = f"Two days {'after' if ahead else 'before'} {name} is {DAYS[(today + (2 if ahead else -2)) % 7]}."
        return turn(draw, "days", question, answer, always=True)
    if kind == 2 and draw.chance(0.3):
        question = draw.pick(("is {} a weekday", "is {} on the weekend", "is {} a weekend day", "is {} a working day"))
        answer = f"{name} is {'a weekday' if today < 5 else 'on the weekend'}."
        return turn(draw, "days", question.format(name), answer)
    if kind == 3 and draw.chance(0.4):
        length = draw.integer(1, 6)
        end = DAYS[(today + length) % 7]
        question = draw.pick(("how many days are there from {} to {}", "how many days is it from {} to {}"))
        answer = f"From {name} to {end} is {spoken(length)} {'day' if length == 1 else 'days'}."
        return turn(draw, "days", question.format(name, end), answer)
    count = draw.integer(1, 14)
    days = f"{draw.number(count)} {'day' if count == 1 else 'days'}"
    canonical = f"{spoken(count)} {'day' if count == 1 else 'days'}"
    if draw.chance(0.6):
        question = draw.pick(
            (f"what day comes {days} after {name}", f"if today is {name}, what day is it in {days}",
             f"what day is {days} after {name}", f"today is {name}. What day is it in {days}")
        )  # fmt: skip
        answer = f"{capitalise(canonical)} after {name} is {DAYS[(today + count) % 7]}."
    else:
        question = draw.pick(
            (f"what day comes {days} before {name}", f"if today is {name}, what day was it {days} ago",
             f"what day is {days} before {name}", f"what day was {days} before {name}")
        )  # fmt: skip
        answer = f"{capitalise(canonical)} before {name} is {DAYS[(today - count) % 7]}."
    return turn(draw, "days", question, answer)


def month(draw: Draw) -> Sample:
    """Months: order, length, number."""
    this = draw.integer(0, 11)
    name, kind = _NAMES[this], draw.integer(0, 5)
    if kind == 0:
        question = draw.pick(
            (
                "what month comes after {}",
                "which month follows {}",
                "what is the month after {}",
                "what month is after {}",
            )
        )
        return turn(draw, "months", question.format(name), f"The month after {name} is {_NAMES[(this + 1) % 12]}.")
    if kind == 1:
        question = draw.pick(
            (
                "what month comes before {}",
                "which month comes before {}",
                "what is the month before {}",
                "what month is before {}",
            )
        )
        return turn(draw, "months", question.format(name), f"The month before {name} is {_NAMES[this - 1]}.")
    if kind == 2 and this == 1 and draw.chance(0.4):
        question = draw.pick(
            ("how many days does {} have in a leap year", "how many days are in {} in a leap year",
             "how long is {} in a leap year", "how many days has {} in leap years")
        )  # fmt: skip
        return turn(draw, "months", question.format(name), f"{name} has twenty-nine days in a leap year.", always=True)
    if kind == 2:
        question = draw.pick(
            ("how many days are in {}", "how many days does {} have", "how long is {}",
            "how many days are there in {}",
             "how many days has {}", "what is the number of days in {}")
        )  # fmt: skip
        days = "twenty-eight days, or twenty-nine in a leap year" if this == 1 else f"{spoken(MONTHS[name])} days"
        return turn(draw, "months", question.format(name), f"{name} has {days}.")
    if kind == 3:
        question = draw.pick(
            ("what is the {} month", "which month is the {}", "what is the {} month of the year",
            "which is the {} month",
             "name the {} month.", "tell me the {} month of the year.")
        )  # fmt: skip
        return turn(draw, "months", question.format(_ORDINALS[this]), f"The {_ORDINALS[this]} month is {name}.")
    count = draw.integer(1, 11)
    months = f"{draw.number(count)} {'month' if count == 1 else 'months'}"
    canonical = capitalise(f"{spoken(count)} {'month' if count == 1 else 'months'}")
    if draw.chance(0.6):
        question = draw.pick(
            (
                f"what month is {months} after {name}",
                f"if it is {name}, what month is it in {months}",
                f"which month comes {months} after {name}",
            )
        )
        return turn(draw, "months", question, f"{canonical} after {name} is {_NAMES[(this + count) % 12]}.")
    question = draw.pick(
        (
            f"what month is {months} before {name}",
            f"which month comes {months} before {name}",
            f"what month was {months} before {name}",
        )
    )
    return turn(draw, "months", question, f"{canonical} before {name} is {_NAMES[(this - count) % 12]}.")


def fact(draw: Draw) -> Sample:
    """How many of one unit of time are in another."""
    what, answer = draw.pick(FACTS)
    question = draw.pick(("how many {}", "do you know how many {}", "tell me how many {}.", "can you say how many {}"))
    if draw.chance(0.3):
        what = what.replace(" are in", " are there in")
    return turn(draw, "calendar facts", question.format(what), answer)
