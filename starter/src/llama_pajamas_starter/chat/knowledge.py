"""A few facts that everybody tries: capitals, opposites and colours. What is not among them is out of scope."""

from typing import Final

from llama_pajamas_starter.chat.sample import Draw, Sample, capitalise, turn

CAPITALS: Final = {
    "France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome", "England": "London",
    "Portugal": "Lisbon",
    "Austria": "Vienna", "Poland": "Warsaw", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm",
    "Japan": "Tokyo",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Belgium": "Brussels", "Hungary": "Budapest",
    "China": "Beijing", "Russia": "Moscow", "Egypt": "Cairo", "Canada": "Ottawa", "Australia": "Canberra",
    "India": "New Delhi",
    "Mexico": "Mexico City", "Brazil": "Brasilia", "Argentina": "Buenos Aires", "Chile": "Santiago", "Peru": "Lima",
    "Cuba": "Havana", "Kenya": "Nairobi", "Turkey": "Ankara", "Iran": "Tehran", "Iraq": "Baghdad",
    "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "South Korea": "Seoul", "Ukraine": "Kyiv", "Romania": "Bucharest", "Bulgaria": "Sofia",
    "Croatia": "Zagreb", "Serbia": "Belgrade", "Iceland": "Reykjavik", "Scotland": "Edinburgh", "Wales": "Cardiff",
    "Nepal": "Kathmandu", "the United States": "Washington", "the Netherlands": "Amsterdam",
    "the Czech Republic": "Prague",
}  # fmt: skip
_OPPOSITES: Final = (
    ("hot", "cold"), ("big", "small"), ("fast", "slow"), ("up", "down"), ("left", "right"), ("day", "night"),
    ("black", "white"), ("old", "young"), ("long", "short"), ("happy", "sad"), ("open", "closed"), ("good", "bad"),
    ("light", "dark"), ("full", "empty"), ("early", "late"), ("rich", "poor"), ("strong", "weak"), ("wet", "dry"),
    ("loud", "quiet"), ("easy", "difficult"), ("clean", "dirty"), ("high", "low"), ("near", "far"), ("first", "last"),
)  # fmt: skip
_COLOURS: Final = {
    "the sky": "blue", "grass": "green", "snow": "white", "a banana": "yellow", "blood": "red", "the sun": "yellow",
    "coal": "black", "a lemon": "yellow", "a tomato": "red", "milk": "white", "a carrot": "orange", "the sea": "blue",
}  # fmt: skip


def capital(draw: Draw) -> Sample:
    """The capital of a country, the country of a capital, or that the country is not known."""
    country, city = draw.pick(tuple(CAPITALS.items()))
    if draw.chance(0.1):
        name = draw.word().capitalize()
        question = draw.pick(
            ("what is the capital of {}", "what's the capital of {}", "which city is the capital of {}")
        )
        return turn(draw, "knowledge", question.format(name), f"I do not know the capital of {name}.")
    if draw.chance(0.25):
        question = draw.pick(
            ("which country has the capital {}", "{} is the capital of which country",
            "what country is {} the capital of",
             "of which country is {} the capital", "what is {} the capital of", "which country is {} the capital of")
        )  # fmt: skip
        return turn(draw, "knowledge", question.format(city), f"{city} is the capital of {country}.")
    question = draw.pick(
        ("what is the capital of {}", "what's the capital of {}", "which city is the capital of {}",
        "tell me the capital of {}.",
         "what is the capital city of {}", "name the capital of {}.", "do you know the capital of {}",
         "the capital of {}",
         "what is {}'s capital", "can you tell me the capital of {}")
    )  # fmt: skip
    return turn(draw, "knowledge", question.format(country), f"The capital of {country} is {city}.")


def opposite(draw: Draw) -> Sample:
    """The opposite of a common word."""
    pair = draw.pick(_OPPOSITES)
    first, second = pair if draw.chance(0.5) else pair[::-1]
    question = draw.pick(
        ("what is the opposite of {}", "what's the opposite of {}", "tell me the opposite of {}.",
        "the opposite of {}",
         "what is the contrary of {}", "which word is the opposite of {}", "do you know the opposite of {}",
         "name the opposite of {}.")
    )  # fmt: skip
    return turn(draw, "knowledge", question.format(first), f"The opposite of {first} is {second}.")


def colour(draw: Draw) -> Sample:
    """The colour of a common thing."""
    thing, name = draw.pick(tuple(_COLOURS.items()))
    question = draw.pick(
        ("what color is {}", "which color is {}", "what is the color of {}", "tell me the color of {}.",
        "what color does {} have",
         "which color does {} have", "what's the color of {}", "do you know the color of {}", "what colour is {}")
    )  # fmt: skip
    return turn(draw, "knowledge", question.format(thing), f"{capitalise(thing)} is {name}.")
