"""What an answer must look like, as a grammar for llguidance (its dialect of Lark).

Source: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llguidance import LLMatcher

from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.language.calls import object_schema
from llama_pajamas_run_core.text.reasoning import ReasoningTags
from llama_pajamas_run_core.text.tool_calls import ToolStyle
from llama_pajamas_run_core.types.chat import Tool
from llama_pajamas_run_mlx.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

#: White space inside JSON: without a limit, a model may go on writing spaces for ever.
_SPACE: Final = "( |\\n[ \\t]{0,20})?"
_HEADER: Final = f"space: /{_SPACE}/\n"


class Grammar:
    """Makes grammars for one model and one request.

    Args:
        tokenizer: of the model.
        tools: what may be called.
        style: how the model writes calls.
        template: the model's chat template, which tells variants of a style apart.
        parallel: whether there may be several calls.

    Raises:
        BadInput: a tool's schema is not valid.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tools: Sequence[Tool] = (),
        *,
        style: ToolStyle = ToolStyle.HERMES,
        template: str = "",
        parallel: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._style = style
        self._key = "parameters" if style is ToolStyle.LLAMA and '"parameters"' in template else "arguments"
        self._headed = style is ToolStyle.MISTRAL and "[ARGS]" in template
        self._parallel = parallel
        self._names = [tool.name for tool in tools]
        self._rules = _HEADER + "".join(
            f"arguments_{index}: {self._arguments(tool, index)}\n" for index, tool in enumerate(tools)
        )

    def add(self, name: str, rule: str) -> None:
        """Add a rule that bodies can name."""
        self._rules += f"{name}: {rule}\n"

    def text(self, body: str) -> str:
        """A whole grammar that begins with ``body``."""
        return f"start: {body}\n{self._rules}"

    def thought(self, tags: ReasoningTags | None, prompt: str) -> str:
        """What may stand before an answer that is held to a grammar; empty for a model that does not reason."""
        if tags is None:
            return ""
        closing = self._tokenizer.named(tags.closing)
        if closing is not None and self._tokenizer.guide.is_special_token(closing):
            self._rules += f"thought: /(.|\\n)*/ <[{closing}]> /[ \\n]{{0,4}}/\n"
        else:
            self._rules += f"thinking[suffix={json.dumps(tags.closing)}]: /(.|\\n)*/\n"
            self._rules += "thought: thinking /[ \\n]{0,4}/\n"
        if prompt.rstrip().endswith(tags.opening):
            return "thought "
        return f"({self._marker(tags.opening)} thought)? "

    def calls(self) -> str:
        """One call or several, from the first character of the first."""
        match self._style:
            case ToolStyle.HERMES:
                return f"{self._marker('<tool_call>')} {self.behind_opener()}"
            case ToolStyle.MISTRAL:
                return f"{self._marker('[TOOL_CALLS]')} {self.behind_opener()}"
            case ToolStyle.GEMMA:
                return f'"```json\\n" {self._call()} /\\n?/ "```"'
            case ToolStyle.LLAMA:
                return self._call() + (f' ("; " {self._call()})*' if self._parallel else "")

    def behind_opener(self) -> str:
        """What follows an opening marker."""
        if self._style is ToolStyle.HERMES:
            opening, closing = self._marker("<tool_call>"), self._marker("</tool_call>")
            one = f"space {self._call()} space {closing}"
            return one + (f" (space {opening} {one})*" if self._parallel else "")
        if self._headed:
            call = " | ".join(
                f"{json.dumps(name)} {self._marker('[ARGS]')} arguments_{index}"
                for index, name in enumerate(self._names)
            )
            return f"({call})" + (f" ({self._marker('[TOOL_CALLS]')} ({call}))*" if self._parallel else "")
        more = f'("," space {self._call()})*' if self._parallel else ""
        return f'space "[" space {self._call()} {more} space "]"'

    def behind_name(self, name: str) -> str:
        """What follows ``{"name": "NAME"`` in a call of that tool."""
        end = '/\\n?/ "```"' if self._style is ToolStyle.GEMMA else ""
        return f"{self._rest(self._names.index(name))} {end}"

    def check(self, text: str, param: str) -> str:
        """See that a grammar can be enforced.

        Returns:
            the grammar.

        Raises:
            BadInput: a schema in it is not valid, or nothing satisfies it.
            Unsupported: it uses a keyword that cannot be enforced; the message names it.
        """
        if objection := LLMatcher.validate_grammar(text, self._tokenizer.guide):
            _refuse(objection, param)
        return text

    def _marker(self, text: str) -> str:
        """A marker as the grammar's symbol: a token of its own, or plain text."""
        token = self._tokenizer.named(text)
        if token is not None and self._tokenizer.guide.is_special_token(token):
            return f"<[{token}]>"
        return json.dumps(text)

    def _call(self) -> str:
        calls = (
            f'"{{" space "\\"name\\"" space ":" space {json.dumps(json.dumps(name))} {self._rest(index)}'
            for index, name in enumerate(self._names)
        )
        return f"({' | '.join(calls)})"

    def _rest(self, index: int) -> str:
        return f'space "," space "\\"{self._key}\\"" space ":" space arguments_{index} space "}}"'

    def _arguments(self, tool: Tool, index: int) -> str:
        schema = object_schema(tool.parameters)
        objection = LLMatcher.validate_grammar(f"start: {json_rule(schema)}", self._tokenizer.guide)
        if not objection:
            return json_rule(schema)
        try:
            _refuse(objection, f"tools[{index}].function.parameters")
        except Unsupported as error:
            # Only valid JSON is promised for calls; a tool must not become useless by a detail of its schema.
            _log.info("arguments of %s are not held to their schema: %s", tool.name, error.message)
        return json_rule({"type": "object"})


def json_rule(schema: Mapping[str, Any] | None) -> str:
    """A JSON document that satisfies a schema; None: any object."""
    asked = {"type": "object"} if schema is None else schema
    return f"%json {json.dumps({**asked, 'x-guidance': {'whitespace_pattern': _SPACE}})}"


def _refuse(objection: str, param: str) -> None:
    reason = objection.strip().splitlines()[0]
    if "nimplemented" in reason or "not supported" in reason or "unsupported" in reason.lower():
        raise Unsupported(f"The schema cannot be enforced: {reason}.", param=param)
    raise BadInput(f"The schema is not valid: {reason}.", param=param)
