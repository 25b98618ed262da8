"""Tool calls: choosing a tool from those offered, filling its arguments, and saying its result in words."""

from collections.abc import Callable
from typing import Any, Final

from llama_pajamas_starter.chat import home
from llama_pajamas_starter.chat.sample import Draw, Message, Sample, normalise
from llama_pajamas_starter.chat.small_talk import UNKNOWN
from llama_pajamas_starter.vocabulary import DEVICES, ROOMS

Tool = dict[str, Any]
#: One call wanted by the user: the tool, its arguments, the words that ask for it.
Wanted = tuple[Tool, dict[str, Any], str]
#: Draws one call of one kind of tool.
Scenario = Callable[[Draw], Wanted]

_CITIES: Final = (
    "Paris", "London", "Berlin", "Rome", "Madrid", "Tokyo", "New York", "Boston", "Chicago", "Vienna", "Oslo",
    "Dublin", "Lisbon", "Prague", "Warsaw",
    "Athens", "Cairo", "Sydney", "Toronto", "Moscow", "Beijing", "Delhi", "Mexico City", "San Francisco",
    "Los Angeles", "Hamburg", "Munich", "Zurich",
    "Amsterdam", "Brussels", "Stockholm", "Helsinki", "Copenhagen", "Budapest", "Istanbul", "Seattle", "Denver",
    "Miami", "Dallas", "Hanoi", "Seoul",
)  # fmt: skip
_NAMES: Final = (
    "Anna Tom Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mary Nina Oscar Paul Rosa Sam Tina Alice Bob "
    "John Peter Lucy Max Sarah Linda Mark Julia"
).split()
#: Names whose letters are more than one byte each.
_ACCENTED: Final = (
    "Zürich", "Bogotá", "São Paulo", "Málaga", "Köln", "München", "Düsseldorf", "Genève", "Montréal", "Québec",
    "Kraków", "Łódź",
    "Göteborg", "Malmö", "Århus", "Reykjavík", "Cádiz", "Córdoba", "León", "Mérida", "Cancún", "Medellín",
    "Brasília", "Besançon",
    "Orléans", "Nîmes", "Würzburg", "Lübeck", "Tromsø", "Umeå", "Plzeň", "Brno", "Timișoara", "Győr", "İzmir",
    "Asunción",
)  # fmt: skip
CONDITIONS: Final = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "clear", "stormy", "warm", "cold")
_ITEMS: Final = (
    "milk",
    "bread",
    "eggs",
    "butter",
    "apples",
    "coffee",
    "tea",
    "cheese",
    "rice",
    "sugar",
    "bananas",
    "soap",
    "flour",
    "salt",
    "tomatoes",
    "paper",
    "juice",
    "pasta",
)
_ARTISTS: Final = (
    "jazz",
    "classical music",
    "rock",
    "the blues",
    "piano music",
    "Mozart",
    "Bach",
    "the Beatles",
    "country music",
    "pop",
    "Queen",
    "relaxing music",
    "Miles Davis",
    "dance music",
)
_NOUNS: Final = (
    "order status", "stock price", "user profile", "flight status", "exchange rate", "train schedule",
    "account balance", "phone number", "email address",
    "battery level", "song lyrics", "book title", "bus schedule", "package location", "meeting notes", "recipe",
    "translation", "definition", "population",
    "movie rating", "traffic report", "ticket price", "invoice", "calendar entry", "sensor value", "water level",
    "air quality", "opening hours", "menu", "score",
)  # fmt: skip
_WHEN: Final = "today tomorrow Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_KEYS: Final = "name id symbol title company person code key number subject item city user".split()
_VERBS: Final = ("get", "find", "look_up", "fetch", "show", "read", "check")


def tool(name: str, description: str, parameters: dict[str, Any], required: list[str] | None = None) -> Tool:
    """An OpenAI-style tool definition; every parameter is required where ``required`` is not given."""
    schema = {
        "type": "object",
        "properties": parameters,
        "required": list(parameters) if required is None else required,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _string(description: str = "") -> dict[str, Any]:
    return {"type": "string", "description": description} if description else {"type": "string"}


def _place(draw: Draw) -> str:
    if draw.chance(0.08):
        return draw.pick(_ACCENTED)
    return draw.pick(_CITIES) if draw.chance(0.7) else draw.word().capitalize()


def set_device(draw: Draw) -> Wanted:
    """A home device."""
    name = draw.pick(
        ("set_device", "set_device", "set_device", "control_device", "smart_home", "device_control", "home_control")
    )
    long = draw.chance(0.4)
    action: dict[str, Any] = (
        {"type": "string", "enum": [*dict.fromkeys(a for acts in DEVICES.values() for a in acts), "set"]}
        if long
        else _string()
    )
    device: dict[str, Any] = {"type": "string", "enum": list(DEVICES)} if long and draw.chance(0.5) else _string()
    room: dict[str, Any] = {"type": "string", "enum": list(ROOMS)} if long and draw.chance(0.3) else _string()
    definition = tool(
        name,
        draw.pick(
            (
                "Control a device at home.",
                "Turn a device on or off, open or close it, or set its value.",
                "Set the state of a device in a room.",
                "Control smart home devices",
                "Controls a home device",
            )
        ),
        {"action": action, "device": device, "room": room, "value": {"type": draw.pick(("number", "integer"))}},
        ["action", "device"] if draw.chance(0.8) else ["action", "device", "room"],
    )
    wanted, text = home.intent(draw)
    if text.startswith("i w"):
        text = "I" + text[1:]
    return definition, wanted.as_arguments(), text if text.startswith(("can", "could", "would")) else text + "."


def get_time(draw: Draw) -> Wanted:
    """The time of day."""
    name = draw.pick(("get_time", "get_time", "get_current_time", "current_time", "clock"))
    definition = tool(
        name,
        draw.pick(("The current time.", "Get the current time.", "Returns the time of day", "What time it is now.")),
        {},
    )
    return (
        definition,
        {},
        draw.pick(
            (
                "what time is it",
                "what's the time",
                "can you tell me the time",
                "tell me the time.",
                "what time is it now",
                "how late is it",
                "what is the current time",
                "do you know what time it is",
                "give me the time.",
            )
        ),
    )


def get_weather(draw: Draw) -> Wanted:
    """The weather at a place."""
    name = draw.pick(
        ("get_weather", "get_weather", "get_weather", "get_current_weather", "weather", "weather_forecast")
    )
    key = draw.pick(("city", "city", "location", "location", "place", "town"))
    parameters: dict[str, Any] = {
        key: _string(
            draw.pick(
                (
                    "",
                    "",
                    "The city",
                    "The city, for example Paris",
                    "City name",
                    "The city and state, e.g. San Francisco, CA",
                )
            )
        )
    }
    place = _place(draw)
    arguments: dict[str, Any] = {key: place}
    text = draw.pick(
        ("what is the weather in {}", "what's the weather like in {}", "how is the weather in {}",
        "tell me the weather in {}.", "what is the weather like in {} today",
         "is it raining in {}", "how warm is it in {}", "weather in {}", "what is the temperature in {}",
         "will it rain in {}", "is it sunny in {}", "get the weather for {}.")
    ).format(place)  # fmt: skip
    if draw.chance(0.3):
        parameters["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        if draw.chance(0.35):
            unit = draw.pick(("celsius", "fahrenheit"))
            arguments["unit"] = unit
            text = f"{text.rstrip('.')} in {unit.capitalize()}"
    description = draw.pick(
        (
            "The weather in a city.",
            "Get the weather for a city.",
            "Get the current weather in a given location",
            "Returns the current weather",
            "Look up the weather.",
        )
    )
    return tool(name, description, parameters, [key]), arguments, text


def set_timer(draw: Draw) -> Wanted:
    """A timer."""
    key = draw.pick(("minutes", "minutes", "duration", "duration_minutes", "length"))
    definition = tool(
        draw.pick(("set_timer", "set_timer", "start_timer", "timer")),
        draw.pick(("Start a timer.", "Set a timer for some minutes.", "Starts a countdown timer")),
        {key: {"type": draw.pick(("integer", "number"))}},
    )
    minutes = draw.integer(1, 90)
    said = f"{draw.number(minutes)} minute{'s' if minutes > 1 else ''}"
    text = draw.pick(
        (
            "set a timer for {}.",
            "start a timer for {}.",
            "timer for {}.",
            "please set a timer for {}.",
            "can you set a timer for {}",
            "set a {} timer.",
        )
    )
    return definition, {key: minutes}, text.format(said if "{} timer" not in text else f"{draw.number(minutes)} minute")


def play_music(draw: Draw) -> Wanted:
    """Music."""
    key = draw.pick(("query", "artist", "music", "name", "song"))
    what = draw.pick(_ARTISTS) if draw.chance(0.7) else draw.word().capitalize()
    definition = tool(
        draw.pick(("play_music", "play_music", "play", "play_song")),
        draw.pick(("Play music.", "Play a song or an artist.", "Starts playing music")),
        {key: _string()},
    )
    return (
        definition,
        {key: what},
        draw.pick(
            ("play {}.", "please play {}.", "can you play {}", "put on {}.", "I want to hear {}.", "play some {}.")
        ).format(what),
    )


def send_message(draw: Draw) -> Wanted:
    """A message to somebody."""
    to, body = draw.pick((("to", "text"), ("recipient", "message"), ("name", "text"), ("contact", "body")))
    name = draw.pick(_NAMES) if draw.chance(0.7) else draw.word().capitalize()
    text = draw.pick(
        (
            "I am late",
            "I will be late",
            "dinner is ready",
            "I am on my way",
            "call me",
            "happy birthday",
            "see you soon",
            "good night",
            "the meeting is at three",
            "thank you",
            "please bring milk",
            "I am home",
        )
    )
    definition = tool(
        draw.pick(("send_message", "send_message", "send_text", "message")),
        draw.pick(("Send a message to a person.", "Sends a text message", "Send someone a message.")),
        {to: _string(), body: _string()},
    )
    return (
        definition,
        {to: name, body: text},
        draw.pick(
            (
                "tell {} {}.",
                "send {} the message {}.",
                "send a message to {} saying {}.",
                "text {} {}.",
                "message {} {}.",
            )
        ).format(name, text),
    )


def add_item(draw: Draw) -> Wanted:
    """The shopping list."""
    item = draw.pick(_ITEMS) if draw.chance(0.75) else draw.word()
    key = draw.pick(("item", "item", "name", "product"))
    definition = tool(
        draw.pick(("add_to_list", "add_to_shopping_list", "add_item", "shopping_list")),
        draw.pick(
            ("Add an item to the shopping list.", "Adds something to the list", "Put an item on the shopping list.")
        ),
        {key: _string()},
    )
    return (
        definition,
        {key: item},
        draw.pick(
            (
                "put {} on the shopping list.",
                "add {} to the shopping list.",
                "add {} to my list.",
                "I need {} on my shopping list.",
                "please add {} to the list.",
            )
        ).format(item),
    )


_SIGNS: Final = {"plus": "+", "times": "*", "minus": "-"}


def calculate(draw: Draw) -> Wanted:
    """A sum, product or difference that a tool works out."""
    word, names = draw.pick(
        (
            ("plus", ("add", "add", "add_numbers", "sum")),
            ("times", ("multiply", "multiply_numbers")),
            ("minus", ("subtract",)),
        )
    )
    first, second = draw.pick((("a", "b"), ("a", "b"), ("x", "y"), ("first", "second")))
    kind = draw.pick(("integer", "number"))
    a, b = draw.integer(0, 999 if draw.chance(0.4) else 99), draw.integer(0, 999 if draw.chance(0.4) else 99)
    definition = tool(
        draw.pick(names),
        draw.pick((f"{names[0].capitalize()} two numbers.", f"{names[0].capitalize()} two numbers")),
        {first: {"type": kind}, second: {"type": kind}},
    )
    x, y = draw.number(a), draw.number(b)
    text = draw.pick(
        (f"what is {x} {word} {y}", f"how much is {x} {word} {y}", f"{x} {word} {y}", f"calculate {x} {word} {y}.")
    )
    if draw.digits and draw.chance(0.3):
        text = f"what is {x} {_SIGNS[word]} {y}"
    return definition, {first: a, second: b}, text


def _search(draw: Draw) -> Wanted:
    key = draw.pick(("query", "query", "q", "text", "keywords"))
    what = draw.pick(
        (
            "red shoes",
            "cheap flights",
            "a new phone",
            "garden tools",
            "the news",
            "good restaurants",
            "a used car",
            "winter jackets",
            "funny cats",
            "used books",
            "jobs",
            "a recipe for soup",
        )
    )
    what = what if draw.chance(0.6) else " ".join(draw.word() for _ in range(draw.integer(1, 2)))
    definition = tool(
        draw.pick(("search", "web_search", "search_web", "internet_search")),
        draw.pick(("Search the web.", "Search the internet for a query.", "Web search")),
        {key: _string()},
    )
    return (
        definition,
        {key: what},
        draw.pick(
            (
                "search for {}.",
                "look up {}.",
                "search the web for {}.",
                "find {} on the internet.",
                "please search for {}.",
            )
        ).format(what),
    )


def _look(draw: Draw) -> Wanted:
    definition = tool(
        draw.pick(("look", "take_picture", "describe_camera", "detect_objects")),
        draw.pick(
            ("Look through the camera.", "Detect the objects in front of the camera.", "Returns what the camera sees")
        ),
        {},
    )
    return (
        definition,
        {},
        draw.pick(
            (
                "what do you see",
                "what can you see",
                "look around.",
                "what is in front of you",
                "describe what you see.",
                "what is in front of the camera",
                "tell me what you see.",
            )
        ),
    )


def _lookup(draw: Draw) -> Wanted:
    """A tool that nobody has heard of: its name, its parameter and the value can only be copied."""
    noun, verb = draw.pick(_NOUNS), draw.pick(_VERBS)
    if draw.chance(0.3):
        noun = f"{draw.word()} {noun.split()[-1]}"
    elif draw.chance(0.15):
        noun = draw.word()
    key = draw.pick(_KEYS) if draw.chance(0.8) else draw.word()
    makers: tuple[Callable[[], str], ...] = (
        draw.word,
        lambda: draw.word().capitalize(),
        lambda: draw.pick(_NAMES),
        lambda: str(draw.integer(1, 9999)),
        lambda: draw.word().upper()[:4],
    )
    value = draw.pick(makers)()
    parameters = {key: _string(f"The {key}" if draw.chance(0.3) else "")}
    said = verb.replace("_", " ")
    definition = tool(
        f"{verb}_{noun.replace(' ', '_')}",
        draw.pick(
            (
                f"{said.capitalize()} the {noun}.",
                f"Returns the {noun}",
                f"{said.capitalize()} the {noun} for a given {key}.",
            )
        ),
        parameters,
    )
    text = draw.pick(
        (
            f"{said} the {noun} for {value}.",
            f"what is the {noun} of {value}",
            f"what is the {noun} for {value}",
            f"{said} the {noun} of {value}.",
            f"tell me the {noun} for {value}.",
            f"give me the {noun} of {value}.",
        )
    )
    arguments: dict[str, Any] = {key: value}
    if value.isdigit() and draw.chance(0.5):
        parameters[key] = {"type": "integer"}
        arguments[key] = int(value)
    if draw.chance(0.3):
        second, day = draw.pick(("date", "day", "when")), draw.pick(_WHEN)
        parameters[second] = _string("today, tomorrow or a day of the week" if draw.chance(0.3) else "")
        if draw.chance(0.7):
            arguments[second] = day
            text = f"{text.rstrip('.')} for {day}" + ("." if text.endswith(".") else "")
    return definition, arguments, text


_SCENARIOS: Final[tuple[tuple[Scenario, float], ...]] = (
    (set_device, 0.27), (get_time, 0.05), (get_weather, 0.14), (set_timer, 0.08), (play_music, 0.05),
    (send_message, 0.06), (add_item, 0.05), (calculate, 0.06), (_search, 0.04), (_look, 0.04), (_lookup, 0.16),
)  # fmt: skip


def choose_scenario(draw: Draw) -> Scenario:
    """A kind of tool, by its share."""
    return draw.rng.choices([s for s, _ in _SCENARIOS], [w for _, w in _SCENARIOS])[0]


def offer(draw: Draw, wanted: Tool | None, *, without: tuple[Scenario, ...] = ()) -> list[Tool]:
    """The wanted tool among zero to three others, in any order."""
    offered = [wanted] if wanted else []
    used = set(without)
    for _ in range(draw.pick((0, 0, 1, 1, 2, 3)) + (wanted is None)):
        scenario = choose_scenario(draw)
        if scenario not in used:
            used.add(scenario)
            offered.append(scenario(draw)[0])
    draw.rng.shuffle(offered)
    if draw.chance(0.85):
        return offered
    empty = draw.chance(0.5)
    return [_sparse(definition, empty=empty) for definition in offered]


def _sparse(definition: Tool, *, empty: bool) -> Tool:
    """A definition as lazy clients write it: without a description, or with an empty one."""
    function = {
        key: "" if key == "description" else value
        for key, value in definition["function"].items()
        if empty or key != "description"
    }
    return {"type": "function", "function": function}


def call_message(*calls: tuple[Tool, dict[str, Any]]) -> Message:
    """The assistant's message that calls tools. The arguments are a dictionary, as Hugging Face templates take them."""
    functions = [{"name": definition["function"]["name"], "arguments": arguments} for definition, arguments in calls]
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": f"call_{index}", "type": "function", "function": function}
            for index, function in enumerate(functions)
        ],
    }


def key_of(text: str, definition: Tool) -> str:
    """What decides the split: the tool and the words."""
    return f"{definition['function']['name']} {normalise(text)}"


def tool_call(draw: Draw) -> Sample:
    """A request that one of the offered tools answers; at times two devices at once."""
    scenario = choose_scenario(draw)
    definition, arguments, text = scenario(draw)
    tools = offer(draw, definition, without=(scenario,))
    if scenario is set_device and draw.chance(0.12):
        second, words = home.intent(draw)
        message = call_message((definition, arguments), (definition, second.as_arguments()))
        first = text.rstrip(".")
        question = f"{first} and {words}" + ("" if first.startswith(("can", "could", "would")) else ".")
        return Sample(
            "tool call",
            [{"role": "user", "content": draw.ask(question)}, message],
            (key_of(question, definition),),
            tools,
        )
    message = call_message((definition, arguments))
    return Sample(
        "tool call", [{"role": "user", "content": draw.ask(text)}, message], (key_of(text, definition),), tools
    )


def no_tool_needed(draw: Draw, plain: Callable[[Draw], Sample]) -> Sample:
    """A question that the model answers by itself although tools are offered."""
    sample = plain(draw)
    unwanted: tuple[Scenario, ...] = (calculate,)
    if sample.family == "home: spoken":
        unwanted += (set_device,)
    if sample.answer["content"] == UNKNOWN:
        unwanted += (_lookup, _search, play_music, send_message)
    if sample.family == "small talk":
        unwanted += (get_time, get_weather, set_timer, _look)
    tools = offer(draw, None, without=unwanted)
    return Sample("no tool needed", sample.messages, sample.keys, tools)
