"""Home control: a request becomes JSON, a tool call or a spoken confirmation, whatever the conversation asks for."""

import json
from dataclasses import dataclass
from typing import Any, Final

from llama_pajamas_starter.chat.sample import Draw, Sample, normalise, turn
from llama_pajamas_starter.vocabulary import DEVICES, ROOMS, spoken

#: Devices that take a value: the unit it is said with, and the values.
SETTABLE: Final = {
    "light": ("percent", range(5, 101, 5)),
    "lamp": ("percent", range(5, 101, 5)),
    "fan": ("percent", range(10, 101, 10)),
    "speaker": ("percent", range(5, 101, 5)),
    "blinds": ("percent", range(10, 101, 10)),
    "heater": ("degrees", range(10, 31)),
}

_SAID: Final = {
    "turn_on": ("turn on {}", "switch on {}", "turn {} on", "switch {} on", "put {} on", "start {}"),
    "turn_off": ("turn off {}", "switch off {}", "turn {} off", "switch {} off", "put {} off", "shut off {}"),
    "dim": ("dim {}", "make {} darker", "turn down {}"),
    "brighten": ("brighten {}", "make {} brighter", "turn up {}"),
    "open": ("open {}", "open up {}"),
    "close": ("close {}", "shut {}"),
    "lock": ("lock {}", "lock up {}"),
    "unlock": ("unlock {}",),
    "set": ("set {}", "put {}", "change {}", "adjust {}"),
}
#: Other words for a device.
_ALSO: Final = {
    "light": ("lights",), "television": ("tv", "TV", "telly"), "heater": ("heating",
    "radiator"), "speaker": ("speakers",),
    "blinds": ("shades",), "lamp": ("lamps",), "window": ("windows",), "fan": ("ventilator",),
}  # fmt: skip
_DOING: Final = {
    "turn_on": "Turning on", "turn_off": "Turning off", "dim": "Dimming", "brighten": "Brightening",
    "open": "Opening",
    "close": "Closing", "lock": "Locking", "unlock": "Unlocking", "set": "Setting",
}  # fmt: skip
_DONE: Final = {
    "turn_on": "turned on", "turn_off": "turned off", "dim": "dimmed", "brighten": "brightened", "open": "opened",
    "close": "closed", "lock": "locked", "unlock": "unlocked", "set": "set",
}  # fmt: skip
_POLITE: Final = (
    "{}",
    "{}",
    "{}",
    "please {}",
    "can you {}",
    "could you {}",
    "would you {}",
    "i want you to {}",
    "i would like you to {}",
    "go and {}",
    "{} for me",
    "{} now",
)
_JSON_SYSTEM: Final = (
    "Answer with JSON only.", "Reply in JSON.", "You are a home assistant. Answer with a JSON object.",
    "You control a home. Reply with JSON only.",
    "Respond with a JSON object with the keys action, device, room and value.",
    "Return JSON.", "Output only JSON.", "You are Pajama. Answer every request as JSON.",
    "Turn every request into a JSON object with action, device and room.", "Your answers are JSON objects.",
)  # fmt: skip
_JSON_ASKED: Final = (
    "answer in JSON: {}", "{}. Answer with JSON.", "reply with JSON only: {}", "as JSON: {}", "{}. Reply as JSON.",
    "give me the JSON for: {}", "{}. Return a JSON object.", "return JSON for this request: {}", "{} (as JSON)",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Intent:
    """What the user wants done: an action on a device, perhaps in a room, perhaps to a value."""

    action: str
    device: str
    room: str | None
    value: int | None

    def as_arguments(self) -> dict[str, Any]:
        """The intent as JSON values; keys that were not said are left out."""
        arguments: dict[str, Any] = {"action": self.action, "device": self.device}
        if self.room is not None:
            arguments["room"] = self.room
        if self.value is not None:
            arguments["value"] = self.value
        return arguments

    def _what(self) -> str:
        room = f" in the {self.room}" if self.room else ""
        value = f" to {spoken(self.value)} {SETTABLE[self.device][0]}" if self.value is not None else ""
        return f"the {self.device}{room}{value}."

    def confirmation(self) -> str:
        """The spoken confirmation: "Turning off the light in the kitchen."."""
        return f"{_DOING[self.action]} {self._what()}"

    def report(self) -> str:
        """What is said once it is done: "I turned off the light in the kitchen."."""
        return f"I {_DONE[self.action]} {self._what()}"


def intent(draw: Draw) -> tuple[Intent, str]:
    """An intent, and the words that ask for it."""
    device = draw.pick(tuple(DEVICES))
    room = draw.pick(ROOMS) if draw.chance(0.8) else None
    action, value = draw.pick(DEVICES[device]), None
    if device in SETTABLE and ((action in ("dim", "brighten") and draw.chance(0.4)) or draw.chance(0.3)):
        action = action if action in ("dim", "brighten") else "set"
        value = draw.pick(SETTABLE[device][1])
    article = draw.pick(("the ", "the ", "the ", "the ", "the ", "the ", "the ", "my ", "our ", "", "all the "))
    said_device = draw.pick(_ALSO[device]) if device in _ALSO and draw.chance(0.2) else device
    if room is None:
        target = f"{article}{said_device}"
    elif draw.chance(0.55):
        target = f"{article}{said_device} in {draw.pick(('the', 'the', 'the', 'my'))} {room}"
    else:
        target = f"{article}{room} {said_device}"
    text = draw.pick(_SAID[action]).format(target)
    if value is not None:
        unit = SETTABLE[device][0]
        said = f"{value}%" if unit == "percent" and draw.digits and draw.chance(0.5) else f"{draw.number(value)} {unit}"
        text += f" to {said}"
    return Intent(action, device, room, value), draw.pick(_POLITE).format(text)


def _request(text: str) -> str:
    """The words of a request, as :meth:`Draw.ask` takes them."""
    if text.startswith(("can", "could", "would")):
        return text
    return (text.replace("i w", "I w", 1) if text.startswith("i w") else text) + "."


def spoken_confirmation(draw: Draw) -> Sample:
    """Home control with neither tools nor JSON: a sentence."""
    wanted, text = intent(draw)
    return turn(draw, "home: spoken", _request(text), wanted.confirmation(), key=normalise(text))


def as_json(draw: Draw) -> Sample:
    """Home control as one JSON object, asked for by the system prompt or by the request."""
    if draw.chance(0.04):
        return _not_home(draw)
    wanted, text = intent(draw)
    answer = json.dumps(wanted.as_arguments())
    messages = []
    if draw.chance(0.55):
        messages.append({"role": "system", "content": draw.pick(_JSON_SYSTEM)})
        question = draw.ask(_request(text))
    else:
        form = draw.pick(_JSON_ASKED).format(text)
        question = form[:1].upper() + form[1:] if draw.chance(0.75) else form.lower()
        if draw.chance(0.3):
            question += "." if question[-1] not in ".)" else ""
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Sample("home: JSON", messages, (normalise(text),), json=True)


def _not_home(draw: Draw) -> Sample:
    """JSON asked for, but the request is none of the home's."""
    question = draw.ask(draw.pick(
        ("what is the capital of france", "tell me a joke.", "who are you", "how is the weather", "sing a song.",
        "what is love",
         "who won the game", "write a poem.", "where do you live", "what is your favorite color", "how old are you")
    ))  # fmt: skip
    messages = [
        {"role": "system", "content": draw.pick(_JSON_SYSTEM)},
        {"role": "user", "content": question},
        {"role": "assistant", "content": json.dumps({"action": "none"})},
    ]
    return Sample("home: JSON", messages, ("!" + normalise(question),), json=True)
