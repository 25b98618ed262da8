"""Tool calls in what a model writes, told from plain text as it streams.

Every family of models marks its calls in its own way. What looked like a call and turns out not to be one is given
back as the text it is; of a call nothing but the call is shown.
"""

import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from llama_pajamas_run_core.text.call_bodies import Body, Event, Fence, JsonCalls, MistralCalls
from llama_pajamas_run_core.text.stops import overlap
from llama_pajamas_run_core.types.chat import ToolCallDelta


class ToolStyle(StrEnum):
    """How a family of models writes tool calls."""

    #: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``: Hermes, Qwen and many more.
    HERMES = "hermes"
    #: ``[TOOL_CALLS][{"name": ..., "arguments": {...}}]`` or ``[TOOL_CALLS]name[ARGS]{...}``: Mistral.
    MISTRAL = "mistral"
    #: ``{"name": ..., "parameters": {...}}`` alone or behind ``<|python_tag|>``: Llama 3; also what a model does that
    #: was told to answer in JSON.
    LLAMA = "llama"
    #: Fenced code: ``tool_code`` with Python calls, or ``json`` with the same object: Gemma.
    GEMMA = "gemma"


def style_of(template: str) -> ToolStyle:
    """The style of a model, by what its chat template contains; bare JSON where it contains no markup."""
    for text, style in (
        ("<tool_call>", ToolStyle.HERMES),
        ("[TOOL_CALLS]", ToolStyle.MISTRAL),
        ("<|python_tag|>", ToolStyle.LLAMA),
        ("ipython", ToolStyle.LLAMA),
        ("tool_code", ToolStyle.GEMMA),
        ("<start_of_turn>", ToolStyle.GEMMA),
    ):
        if text in template:
            return style
    return ToolStyle.LLAMA


class ToolCallSplitter:
    """Splits a streamed answer into plain text and tool calls.

    Args:
        style: how the model writes its calls.
        names: the tools there are; a call of any other is plain text. None: any name is one.
    """

    def __init__(self, style: ToolStyle, names: Collection[str] | None = None) -> None:
        self._markup = _MARKUP[style]
        self._names = None if names is None else frozenset(names)
        self._held = ""  # the beginning of what could be markup
        self._raw = ""  # the call that is being read, for when it turns out to be none
        self._plain = 0  # how much of it cannot begin a call again
        self._body: Body | None = None
        self._began = False  # some of that call is out
        self._fresh = True  # at the beginning of the answer, or right behind a call
        self._closing: str | None = None  # what may still follow a call
        self._calls: list[str] = []

    @property
    def called(self) -> bool:
        """Whether there was a call by now."""
        return bool(self._calls)

    def push(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Take the next characters; return what is plain text and what are pieces of calls."""
        made = _Made()
        self._held += text
        while self._held and self._step(made):
            pass
        return made.text, made.deltas()

    def flush(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What was held back, once no more is to come. A call that broke off stays as far as it came."""
        made = _Made()
        if self._body is not None:
            self._finish_body(made)
        if not self._closing or not self._closing.startswith(self._held.lstrip()):
            made.text += self._held
        self._held = ""
        return made.text, made.deltas()

    def _step(self, made: "_Made") -> bool:
        """Deal with some of what is held; whether there may be more that can be dealt with now."""
        if self._body is not None:
            return self._read_body(self._body, made)
        if self._closing is not None:
            return self._skip_closing()
        at, opener = self._find_opener()
        if opener:
            before, self._held = self._held[:at], self._held[at + len(opener) :]
            if not (self._fresh and not before.strip()):
                made.text += before
                before = ""
            self._body, self._began, self._fresh = self._markup.body(), False, False
            self._raw, self._plain = before + opener, len(before) + 1
            if opener in self._markup.bare:  # it belongs to what the body reads
                self._raw, self._held = before, opener + self._held
            return True
        if self._fresh and self._held.isspace():  # before a call it is not worth showing
            return False
        keep = max(overlap(self._held, marker) for marker in self._markup.openers)
        end = len(self._held) - keep
        if self._held[:end].strip():
            self._fresh = False
        elif self._fresh:
            end = 0
        made.text += self._held[:end]
        self._held = self._held[end:]
        return False

    def _find_opener(self) -> tuple[int, str]:
        if self._fresh:
            begin = len(self._held) - len(self._held.lstrip())
            for opener in self._markup.bare:
                if self._held.startswith(opener, begin):
                    return begin, opener
        found = [(at, marker) for marker in self._markup.openers if (at := self._held.find(marker)) >= 0]
        return min(found, default=(0, ""))

    def _read_body(self, body: Body, made: "_Made") -> bool:
        for index, character in enumerate(self._held):
            try:
                events = body.feed(character)
                self._apply(events, made)
            except ValueError:
                rest = self._held[index:]
                self._body = None
                if self._began:  # what is out is out; the rest is text
                    made.text += rest[:1]
                    self._held = rest[1:]
                else:
                    back = self._raw + rest
                    made.text += back[: self._plain]
                    self._held = back[self._plain :]
                return True
            if not self._began:  # from there on nothing is given back
                self._raw += character
            if body.done:
                self._end_body(body)
                self._held = self._held[index + 1 :]
                return True
        self._held = ""
        return False

    def _apply(self, events: list[Event], made: "_Made") -> None:
        for name, arguments in events:
            if name is not None:
                if self._names is not None and name not in self._names:
                    raise ValueError("no such tool")
                made.begin(len(self._calls), name)
                self._calls.append(name)
                self._began = True
            made.add(len(self._calls) - 1, arguments)

    def _end_body(self, body: Body) -> None:
        self._body, self._raw = None, ""
        self._closing = self._markup.closing
        self._fresh = True

    def _finish_body(self, made: "_Made") -> None:
        body = self._body
        assert body is not None
        with suppress(ValueError):
            self._apply(body.finish(), made)
        if not self._began:
            made.text += self._raw
        self._body, self._raw, self._closing = None, "", None

    def _skip_closing(self) -> bool:
        """Drop white space and the closing marker behind a call."""
        closing = self._closing or ""
        rest = self._held.lstrip(_SEPARATORS)
        if closing and rest.startswith(closing):
            self._held, self._closing = rest[len(closing) :], ""
            return True
        if not rest or closing.startswith(rest):
            self._held = rest
            return False
        self._held, self._closing = rest, None
        return True


#: What may stand between two calls.
_SEPARATORS: Final = " \t\r\n;"


@dataclass(slots=True)
class _Made:
    """What one push makes: neighbouring pieces of one call's arguments become one delta."""

    text: str = ""
    _deltas: list[ToolCallDelta] = field(default_factory=list)
    _arguments: str = ""
    _index: int = -1

    def begin(self, index: int, name: str) -> None:
        self._settle()
        self._deltas.append(ToolCallDelta(index, f"call_{secrets.token_hex(12)}", name))

    def add(self, index: int, arguments: str) -> None:
        if index != self._index:
            self._settle()
        self._index = index
        self._arguments += arguments

    def deltas(self) -> tuple[ToolCallDelta, ...]:
        self._settle()
        return tuple(self._deltas)

    def _settle(self) -> None:
        if self._arguments:
            self._deltas.append(ToolCallDelta(self._index, arguments=self._arguments))
        self._arguments = ""


@dataclass(frozen=True, slots=True)
class _Markup:
    """What calls look like.

    Attributes:
        openers: markers that a call begins with, anywhere.
        body: reads what follows.
        closing: the marker that may follow.
        bare: what a call begins with where nothing stands before it.
    """

    openers: tuple[str, ...]
    body: type[Body]
    closing: str = ""
    bare: tuple[str, ...] = ()


_MARKUP: Final = {
    ToolStyle.HERMES: _Markup(("<tool_call>",), JsonCalls, "</tool_call>"),
    ToolStyle.MISTRAL: _Markup(("[TOOL_CALLS]",), MistralCalls),
    ToolStyle.LLAMA: _Markup(("<|python_tag|>",), JsonCalls, "<|eom_id|>", bare=("{", "[")),
    ToolStyle.GEMMA: _Markup(("```tool_code\n", "```json\n", "```tool_call\n"), Fence, bare=("{", "[")),
}
