"""Saying what a tool answered: a result in whatever form becomes one spoken sentence."""

import json
from collections.abc import Callable
from typing import Any, Final

from llama_pajamas_starter.chat import home, tools
from llama_pajamas_starter.chat.arithmetic import statement
from llama_pajamas_starter.chat.calendar import clock, duration
from llama_pajamas_starter.chat.sample import Draw, Sample, normalise
from llama_pajamas_starter.vocabulary import spoken

FAILED: Final = "Sorry, that did not work."
_ERRORS: Final = (
    '{"error": "failed"}',
    "error",
    '{"error": "not found"}',
    '{"error": "timeout"}',
    "failed",
    '{"ok": false}',
)
_DONE: Final = (
    "ok", "done", '{"ok": true}', '{"status": "ok"}', '{"result": "ok"}', '{"success": true}', '{"status": "done"}',
)  # fmt: skip

#: (the tool's result, the sentence that says it)
Said = tuple[str, str]


def _device(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said:
    done = home.Intent(arguments["action"], arguments["device"], arguments.get("room"), arguments.get("value"))
    return draw.pick(_DONE), done.report()


def _time(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said:
    minutes = draw.integer(0, 1439) if draw.chance(0.4) else 5 * draw.integer(0, 287)
    hour, minute = divmod(minutes, 60)
    text = f"{hour:02d}:{minute:02d}"
    if draw.chance(0.3):
        text = f"{hour % 12 or 12}:{minute:02d} {'AM' if hour < 12 else 'PM'}"
    if draw.chance(0.6):
        text = json.dumps({draw.pick(("time", "time", "now", "current_time", "result")): text})
    return text, f"It is {clock(minutes)}."


def _weather(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said:
    key, place = next(iter(arguments.items()))
    degrees, condition = draw.integer(-15, 40), draw.pick(tools.CONDITIONS)
    report: dict[str, Any] = {
        draw.pick(("temperature", "temperature", "temp", "degrees")): degrees,
        draw.pick(("condition", "condition", "conditions", "sky", "weather")): condition,
    }
    if draw.chance(0.3):
        report = {key: place} | report
    if draw.chance(0.3):
        report = dict(reversed(list(report.items())))
    text = json.dumps(report)
    if draw.chance(0.25):
        text = draw.pick(
            (f"{condition}, {degrees} degrees", f"{degrees} degrees and {condition}", f"{degrees}°C, {condition}")
        )
    unit = "degree" if abs(degrees) == 1 else "degrees"
    return text, f"It is {spoken(degrees)} {unit} and {condition} in {place}."


def _timer(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said:
    return draw.pick(_DONE), f"The timer is set for {duration(next(iter(arguments.values())))}."


def _item(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said:
    return draw.pick(_DONE), f"I added {next(iter(arguments.values()))} to the list."


def _music(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said:
    return draw.pick(_DONE), f"Playing {next(iter(arguments.values()))}."


def _message(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said:
    return draw.pick(_DONE), f"I sent the message to {next(iter(arguments.values()))}."


def _calculation(draw: Draw, arguments: dict[str, Any], definition: tools.Tool) -> Said | None:
    a, b = arguments.values()
    name = definition["function"]["name"]
    word = "times" if name.startswith("multiply") else "minus" if name == "subtract" else "plus"
    result = {"times": a * b, "minus": a - b, "plus": a + b}[word]
    if abs(result) > 9999:
        return None
    return draw.pick((str(result), json.dumps({"result": result}))), statement(a, word, b, spoken(result))


_RESULTS: Final[dict[tools.Scenario, Callable[[Draw, dict[str, Any], tools.Tool], Said | None]]] = {
    tools.set_device: _device,
    tools.get_time: _time,
    tools.get_weather: _weather,
    tools.set_timer: _timer,
    tools.add_item: _item,
    tools.play_music: _music,
    tools.send_message: _message,
    tools.calculate: _calculation,
}


def tool_result(draw: Draw) -> Sample:
    """A tool has answered: its result, or that it failed, is said in one sentence."""
    said: Said | None = None
    while said is None:
        scenario = tools.choose_scenario(draw)
        definition, arguments, text = scenario(draw)
        if draw.chance(0.07):
            said = draw.pick(_ERRORS), FAILED
        elif scenario in _RESULTS:
            said = _RESULTS[scenario](draw, arguments, definition)
    content, sentence = said
    messages = [
        {"role": "user", "content": draw.ask(text)},
        tools.call_message((definition, arguments)),
        {"role": "tool", "tool_call_id": "call_0", "content": content},
        {"role": "assistant", "content": sentence},
    ]
    keys = (tools.key_of(text, definition), normalise(f"{text} {content}"))
    return Sample("tool result", messages, keys, tools.offer(draw, definition, without=(scenario,)))
