"""``/v1/chat/completions``: its reply and its chunks."""

import time
from collections.abc import Iterator
from typing import Any

from llama_pajamas_run_core.server.schemas.base import new_id, total, usage_of
from llama_pajamas_run_core.server.wire import finite
from llama_pajamas_run_core.types.chat import Completion, Delta, TokenLogprob, ToolCallDelta, Usage


class ChatReply:
    """One reply to a chat request: whole, or as the chunks of a stream.

    Args:
        model: the model's id.
        include_usage: whether a stream ends with the usage.
    """

    def __init__(self, model: str, *, include_usage: bool = False) -> None:
        self._head = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._tail = {"usage": None} if include_usage else {}
        self._begun: set[int] = set()
        self._calls: set[tuple[int, int]] = set()
        self._usages: list[Usage] = []

    @property
    def usage(self) -> Usage:
        """Of all answers that ended."""
        return total(self._usages) if self._usages else Usage(0, 0)

    def whole(self, completions: list[Completion]) -> dict[str, Any]:
        """The reply to a request without streaming."""
        self._usages = [completion.usage for completion in completions]
        choices = [
            {
                "index": index,
                "message": _message(completion),
                "logprobs": _logprobs(completion.logprobs) if completion.logprobs else None,
                "finish_reason": completion.finish_reason,
            }
            for index, completion in enumerate(completions)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": usage_of(self.usage)}

    def chunks(self, index: int, delta: Delta) -> Iterator[dict[str, Any]]:
        """The chunks for one delta of one answer."""
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, {"role": "assistant", "content": ""})
        if delta.reasoning:
            yield self._chunk(index, {"reasoning_content": delta.reasoning})
        if delta.text or delta.logprobs:
            yield self._chunk(index, {"content": delta.text}, logprobs=delta.logprobs)
        if delta.tool_calls:
            yield self._chunk(index, {"tool_calls": [self._call(index, piece) for piece in delta.tool_calls]})
        if delta.usage is not None:
            self._usages.append(delta.usage)
        if delta.finish_reason is not None:
            yield self._chunk(index, {}, finish=delta.finish_reason)

    def empty(self) -> dict[str, Any]:
        """A chunk that says nothing, to keep a connection alive."""
        return self._chunk(0, {})

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk where usage is asked for."""
        return {**self._head, "choices": [], "usage": usage_of(self.usage)}

    def _chunk(
        self, index: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": _logprobs(logprobs) if logprobs else None,
            "finish_reason": finish,
        }
        return {**self._head, "choices": [choice], **self._tail}

    def _call(self, index: int, piece: ToolCallDelta) -> dict[str, Any]:
        key = (index, piece.index)
        if key in self._calls:
            return {"index": piece.index, "function": {"arguments": piece.arguments}}
        self._calls.add(key)
        function = {"name": piece.name or "", "arguments": piece.arguments}
        return {"index": piece.index, "id": piece.id or new_id("call"), "type": "function", "function": function}


def _message(completion: Completion) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if completion.tool_calls:
        message["content"] = completion.text or None
        message["tool_calls"] = [
            {
                "id": call.id or new_id("call"),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in completion.tool_calls
        ]
    return message


def _logprobs(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    def plain(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": finite(token.logprob), "bytes": list(token.token_bytes)}

    content = [{**plain(token), "top_logprobs": [plain(other) for other in token.top]} for token in tokens]
    return {"content": content, "refusal": None}
