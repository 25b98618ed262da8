"""Tool calls as GBNF, in each family's way of writing them."""

import json
import logging
from collections.abc import Sequence

from llama_pajamas_run_core.errors import Unsupported
from llama_pajamas_run_core.language.calls import object_schema
from llama_pajamas_run_core.text.tool_calls import ToolStyle
from llama_pajamas_run_core.types.chat import Tool
from llama_pajamas_run_gguf.grammar.gbnf import SPACE, Rules, alternatives, literal
from llama_pajamas_run_gguf.grammar.schema import Converter

_log = logging.getLogger(__name__)


class CallGrammar:
    """Adds rules for calls of some tools to a grammar.

    Args:
        rules: the grammar.
        tools: what may be called.
        style: how the model writes calls.
        template: the model's chat template, which tells variants of a style apart.
        parallel: whether there may be several calls.
    """

    def __init__(
        self, rules: Rules, tools: Sequence[Tool], style: ToolStyle, *, template: str, parallel: bool = True
    ) -> None:
        self._rules = rules
        self._style = style
        self._key = "parameters" if style is ToolStyle.LLAMA and '"parameters"' in template else "arguments"
        self._headed = style is ToolStyle.MISTRAL and "[ARGS]" in template
        self._parallel = parallel
        self._space = rules.add("space", SPACE)
        self._arguments = {tool.name: self._schema(tool, index) for index, tool in enumerate(tools)}

    def whole(self) -> str:
        """One call or several, from the first character of the first."""
        match self._style:
            case ToolStyle.HERMES:
                return f'"<tool_call>" {self.behind_opener()}'
            case ToolStyle.MISTRAL:
                return f'"[TOOL_CALLS]" {self.behind_opener()}'
            case ToolStyle.GEMMA:
                return f'"```json\\n" {self._call()} "\\n"? "```"'
            case _:
                more = f'("; " {self._call()})*' if self._parallel else '""'
                return f"{self._call()} {more}"

    def behind_opener(self) -> str:
        """What follows an opening marker."""
        if self._style is ToolStyle.HERMES:
            one = f'{self._space} {self._call()} {self._space} "</tool_call>"'
            return one + (f' ({self._space} "<tool_call>" {one})*' if self._parallel else "")
        if self._headed:
            call = self._rules.add(
                "headed", alternatives([f'{literal(name)} "[ARGS]" {rule}' for name, rule in self._arguments.items()])
            )
            return call + (f' ("[TOOL_CALLS]" {call})*' if self._parallel else "")
        if self._style is ToolStyle.MISTRAL:
            more = f'("," {self._space} {self._call()})*' if self._parallel else '""'
            return f'{self._space} "[" {self._space} {self._call()} {more} {self._space} "]"'
        return f"{self._space} {self._call()}"

    def behind_name(self, name: str) -> str:
        """What follows ``{"name": "NAME"`` in a call of that tool."""
        end = '"\\n"? "```"' if self._style is ToolStyle.GEMMA else '""'
        return f"{self._rest(self._arguments[name])} {end}"

    def _call(self) -> str:
        space = self._space
        calls = [
            f'"{{" {space} "\\"name\\"" {space} ":" {space} {literal(json.dumps(name))} {self._rest(rule)}'
            for name, rule in self._arguments.items()
        ]
        return self._rules.add("call", alternatives(calls))

    def _rest(self, arguments: str) -> str:
        space = self._space
        return f'{space} "," {space} "\\"{self._key}\\"" {space} ":" {space} {arguments} {space} "}}"'

    def _schema(self, tool: Tool, index: int) -> str:
        param = f"tools[{index}].function.parameters"
        schema = object_schema(tool.parameters)
        try:
            return Converter(self._rules, schema, param=param, lenient=True).visit(schema, f"tool-{index}")
        except Unsupported as error:
            # Only valid JSON is promised for calls; a tool must not become useless by a detail of its schema.
            _log.info("arguments of %s are not held to their schema: %s", tool.name, error.message)
            return Converter(self._rules, {}, param=param).visit({"type": "object"}, f"tool-{index}")
