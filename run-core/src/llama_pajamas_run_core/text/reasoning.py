"""A model's reasoning, apart from its answer."""

from dataclasses import dataclass

from llama_pajamas_run_core.text.stops import overlap


@dataclass(frozen=True, slots=True)
class ReasoningTags:
    """What surrounds the reasoning of a family of models."""

    opening: str
    closing: str


#: The tags that are known, by what their chat templates contain.
TAGS = (ReasoningTags("<think>", "</think>"), ReasoningTags("[THINK]", "[/THINK]"))


def tags_of(template: str) -> ReasoningTags | None:
    """The reasoning tags that a chat template speaks of, or None if it speaks of none."""
    return next((tags for tags in TAGS if tags.closing in template or tags.opening in template), None)


class ReasoningSplitter:
    """Tells reasoning, which stands in tags at the beginning of an answer, from the answer itself.

    Args:
        tags: what surrounds the reasoning.
        prompt: the rendered prompt; where it ends with the opening tag, the answer begins within the reasoning.
    """

    def __init__(self, tags: ReasoningTags = TAGS[0], prompt: str = "") -> None:
        self._tags = tags
        self._held = ""
        self._inside = prompt.rstrip().endswith(tags.opening)
        self._undecided = not self._inside
        self._trim = self._inside

    def push(self, text: str) -> tuple[str, str]:
        """Take the next characters; return what is known to be reasoning and what is known to be answer."""
        if not (self._held or self._undecided or self._inside or self._trim):
            return "", text
        self._held += text
        if self._undecided:
            start = self._held.lstrip()
            if self._tags.opening.startswith(start):  # not enough to tell
                return "", ""
            self._undecided = False
            if not start.startswith(self._tags.opening):
                return "", self._release()
            self._held = start[len(self._tags.opening) :]
            self._inside = self._trim = True
        reasoning = self._reasoning() if self._inside else ""
        return reasoning, "" if self._inside else self._answer()

    def flush(self) -> tuple[str, str]:
        """What was held back, once no more is to come."""
        held = self._release()
        return (held, "") if self._inside else ("", held if self._undecided or not self._trim else "")

    def _reasoning(self) -> str:
        if self._trim:
            self._held = self._held.lstrip()
            self._trim = not self._held
        found, closing, rest = self._held.partition(self._tags.closing)
        if closing:
            self._inside, self._trim, self._held = False, True, rest
            return found.rstrip()
        # White space is held back too: before the closing tag it is dropped.
        stripped = self._held.rstrip()
        keep = len(self._held) - len(stripped) or overlap(self._held, self._tags.closing)
        end = len(self._held[: len(self._held) - keep].rstrip())
        shown, self._held = self._held[:end], self._held[end:]
        return shown

    def _answer(self) -> str:
        if self._trim:
            self._held = self._held.lstrip()
            self._trim = not self._held
        return self._release()

    def _release(self) -> str:
        held, self._held = self._held, ""
        return held
