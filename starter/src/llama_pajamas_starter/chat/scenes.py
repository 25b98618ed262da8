"""Describing what a detector saw: the detections come as JSON, the answer is a spoken sentence."""

import json
from collections import Counter
from typing import Any, Final

from llama_pajamas_starter.chat.sample import Draw, Message, Sample, capitalise, join_words
from llama_pajamas_starter.vocabulary import OBJECTS, plural, spoken

#: Labels of other detectors, so that the model does not fall silent on a YOLO model's classes.
OTHER_LABELS: Final = (
    "person", "dog", "cat", "bird", "horse", "cow", "bicycle", "bus", "truck", "train", "chair", "table", "bottle",
    "cup",
    "book", "apple", "umbrella", "bench", "laptop", "phone",
)  # fmt: skip
_DESCRIBE: Final = (
    "what do you see", "describe what you see.", "describe the picture.", "what is in the picture",
    "what is in the image",
    "describe the image.", "what can you see", "tell me what you see.", "what is there", "describe this scene.",
    "describe these detections.", "what objects are there", "what are you seeing", "what do you see in the picture",
)  # fmt: skip


def plural_of(label: str) -> str:
    """The plural of any label that the model is taught."""
    return {"person": "people", "bus": "buses", "bench": "benches"}.get(label, plural(label))


def counted(label: str, count: int) -> str:
    """One or more of a kind: "a car", "two cars"."""
    if count == 1:
        return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"
    return f"{spoken(count)} {plural_of(label)}"


def description(labels: list[str]) -> str:
    """The sentence for a list of detected labels, in the order of their first appearance.

    "I see two cars and a house." or "I do not see anything."
    """
    if not labels:
        return "I do not see anything."
    return f"I see {join_words([counted(label, count) for label, count in Counter(labels).items()])}."


def _detections(draw: Draw) -> list[dict[str, Any]]:
    pool = OBJECTS if draw.chance(0.75) else OBJECTS + OTHER_LABELS
    kinds = [draw.pick(pool) for _ in range(draw.integer(1, 5))]
    labels = [draw.pick(kinds) for _ in range(draw.integer(1, 8))] if draw.chance(0.96) else []
    return [{"label": label, "confidence": round(0.3 + 0.7 * draw.rng.random(), 2)} for label in labels]


def _add_boxes(draw: Draw, detections: list[dict[str, Any]]) -> None:
    style = draw.rng.random()
    size = draw.pick((64, 128, 256, 320, 640, 640, 1280))
    decimals = draw.pick((0, 0, 0, 1, 2))
    for detection in detections:
        x1, y1 = draw.rng.random() * size * 0.8, draw.rng.random() * size * 0.8
        x2, y2 = x1 + draw.rng.random() * (size - x1), y1 + draw.rng.random() * (size - y1)
        numbers = [round(v, decimals) if decimals else int(v) for v in (x1, y1, x2, y2)]
        if style < 0.75:
            detection["box"] = dict(zip(("x1", "y1", "x2", "y2"), numbers, strict=True))
        elif style < 0.9:
            detection["box"] = numbers
    if draw.chance(0.1):
        for detection in detections:
            detection["class_id"] = draw.integer(0, 9)


def _question(draw: Draw, labels: list[str]) -> tuple[str, str]:
    """A question about the labels and its answer."""
    counts = Counter(labels)
    kind = draw.rng.random()
    if kind < 0.5:
        return draw.pick(_DESCRIBE), description(labels)
    label = draw.pick(labels) if labels and draw.chance(0.6) else draw.pick(OBJECTS)
    count, many = counts[label], plural_of(label)
    if kind < 0.7:
        question = draw.pick(
            (
                f"how many {many} are there",
                f"how many {many} do you see",
                f"count the {many}.",
                f"how many {many} can you see",
                f"how many {many} are in the picture",
            )
        )
        if count == 1:
            return question, f"There is one {label}."
        return question, f"There are {spoken(count) if count else 'no'} {many}."
    if kind < 0.9:
        article = "an" if label[0] in "aeiou" else "a"
        question = draw.pick(
            (
                f"is there {article} {label}",
                f"do you see {article} {label}",
                f"can you see {article} {label}",
                f"is there {article} {label} in the picture",
                f"is there any {label}",
            )
        )
        if not count:
            return question, f"No, there is no {label}."
        return question, f"Yes, there {'is' if count == 1 else 'are'} {counted(label, count)}."
    question = draw.pick(
        (
            "how many things do you see",
            "how many objects are there",
            "how many objects do you see",
            "how many things are there",
        )
    )
    total = len(labels)
    if total == 1:
        return question, "There is one object."
    return question, f"There are {spoken(total) if total else 'no'} objects."


def detections(draw: Draw) -> Sample:
    """A detection list with a question, at times with a second question about the same list."""
    found = _detections(draw)
    labels = [detection["label"] for detection in found]
    if draw.chance(0.9):
        _add_boxes(draw, found)
    shape = draw.rng.random()
    payload: Any = found if shape < 0.7 else {"detections": found} if shape < 0.9 else {"objects": found}
    text = json.dumps(payload, separators=None if draw.chance(0.75) else (",", ":"))
    if shape < 0.05:
        text = json.dumps(labels)
    question, answer = _question(draw, labels)
    asked = draw.ask(question)
    lead = draw.pick(
        ("", "", "", "", "", "Detections: ", "detections:\n", "The detector found: ", "I see: ", "Detected objects: ")
    )
    order = draw.rng.random()
    messages: list[Message] = []
    if order < 0.12:
        messages.append({"role": "system", "content": lead + text})
        content = asked
    elif order < 0.6:
        content = f"{lead}{text}\n{asked}" if draw.chance(0.8) else f"{lead}{text} {asked}"
    else:
        content = f"{asked}\n{lead}{text}" if draw.chance(0.8) else f"{asked} {text}"
    messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    key = f"{' '.join(labels)} ? {question}"
    if draw.chance(0.15):
        question, answer = _question(draw, labels)
        if draw.chance(0.3):
            question = "and " + question
        messages += [
            {"role": "user", "content": draw.ask(question)},
            {"role": "assistant", "content": capitalise(answer)},
        ]
        return Sample("scene", messages, (key, f"{' '.join(labels)} ? {question}"))
    return Sample("scene", messages, (key,))
