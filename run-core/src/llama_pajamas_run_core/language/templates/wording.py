"""Other ways to say what a chat template has no words for.

Messages are as templates get them: mappings with "role", "content" and, where they apply, "tool_calls",
"tool_call_id" and "name".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llama_pajamas_run_core.text.tool_calls import ToolStyle

_Messages = list[dict[str, Any]]

#: As Hermes and Qwen models are told, word for word.
_TOOL_PROMPT = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def in_parts(messages: Sequence[Mapping[str, Any]]) -> _Messages:
    """For templates that want contents as lists of parts."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message["content"], str)
        else dict(message)
        for message in messages
    ]


def explain_tools(messages: _Messages, tools: list[dict[str, Any]]) -> _Messages:
    """For templates without tools: explain them in the system prompt."""
    if not tools:
        return messages
    prompt = _TOOL_PROMPT.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{prompt}"}, *messages[1:]]
    return [{"role": "system", "content": prompt}, *messages]


def write_calls(messages: _Messages, style: ToolStyle) -> _Messages:
    """For templates that show no calls: write them as the model would."""
    before, after = {
        ToolStyle.HERMES: ("<tool_call>\n", "\n</tool_call>"),
        ToolStyle.MISTRAL: ("[TOOL_CALLS][", "]"),
        ToolStyle.LLAMA: ("", ""),
        ToolStyle.GEMMA: ("```json\n", "\n```"),
    }[style]
    result: _Messages = []
    for message in messages:
        calls = message.get("tool_calls", ())
        written = [f"{before}{json.dumps(call['function'], ensure_ascii=False)}{after}" for call in calls]
        plain = {key: value for key, value in message.items() if key != "tool_calls"}
        plain["content"] = "\n".join(text for text in (message["content"], *written) if text)
        result.append(plain)
    return result


def write_results(messages: _Messages) -> _Messages:
    """For templates without tool results: give them as the user's words."""
    return [
        {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
        if message["role"] == "tool"
        else message
        for message in messages
    ]


def without_system(messages: _Messages) -> _Messages:
    """For templates without system prompts: put them at the head of the next question."""
    result: _Messages = []
    pending: list[str] = []
    for message in messages:
        if message["role"] == "system":
            pending.append(message["content"])
        elif message["role"] == "user" and pending:
            result.append({**message, "content": "\n\n".join([*pending, message["content"]])})
            pending = []
        else:
            result.append(message)
    if pending:
        result.append({"role": "user", "content": "\n\n".join(pending)})
    return result


def taking_turns(messages: _Messages) -> _Messages:
    """For templates that insist on turns: join neighbours, and let the assistant take note of results."""
    result: _Messages = []
    for message in messages:
        last = result[-1] if result else None
        if last is not None and last["role"] == "tool" and message["role"] == "user":
            result.append({"role": "assistant", "content": "OK."})
            last = None
        if (
            last is not None
            and last["role"] == message["role"] != "tool"
            and not last.get("tool_calls")
            and not message.get("tool_calls")
        ):
            result[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            result.append(message)
    return result
