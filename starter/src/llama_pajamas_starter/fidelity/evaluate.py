"""``llama-pajamas eval fidelity``: the starter models in every runtime, beside a reference."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_starter.fidelity import chat, speech, vision
from llama_pajamas_starter.fidelity.merge import merged, recorded


def evaluate(
    machine: Machine,
    *,
    only: Annotated[str, "One modality: chat, speech or vision; all of them otherwise."] = "",
    prompts: Annotated[int, "Held-out prompts for the chat model, at most 500."] = 500,
    clips: Annotated[int, "Held-out clips for the speech model."] = 50,
    images: Annotated[int, "Held-out images for the vision models."] = 100,
    merge: Annotated[list[Path] | None, "A record of another machine, for what cannot be run here."] = None,
) -> Iterator[Row]:
    """Compare the starter models between runtimes: greedy tokens, word error rates, mAP, top-1, retrieval, cosine."""
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "chat": lambda: chat.rows(machine, prompts),
        "speech": lambda: speech.rows(machine, clips),
        "vision": lambda: vision.rows(machine, images),
    }
    if only and only not in parts:
        raise BadInput(f"There is no modality {only!r}; there are {', '.join(parts)}.", param="only")
    for name, value in (("prompts", prompts), ("clips", clips), ("images", images)):
        if value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}.", param=name)
    others = [row for path in merge or () for row in recorded(path)]
    for name, part in parts.items():
        if only in ("", name):
            yield from merged(part(), others)
