"""``/v1/completions``: the continuation of raw text."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.server.schemas.base import Int, new_id, one_by_one, total, usage_of
from llama_pajamas_run_core.server.schemas.sampling import Sampling
from llama_pajamas_run_core.server.wire import finite
from llama_pajamas_run_core.types.chat import Completion, Delta, GenerationRequest, TokenLogprob, Usage

#: How long an answer is where the request does not say, as in OpenAI's API.
_DEFAULT_TOKENS = 16
#: The most answers that one request may ask for.
_MOST = 128

TokenIds = Annotated[list[Annotated[Int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(Sampling):
    """Texts to be continued."""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=_MOST)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=_MOST)]
    )
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[Int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[Int, Field(ge=1, le=20)] | None = None

    @model_validator(mode="after")
    def _possible(self) -> "CompletionRequest":
        if self.suffix:
            raise Unsupported("suffix (filling in the middle) is not supported.", param="suffix")
        if self.best_of is not None and self.best_of != self.count:
            raise Unsupported("best_of is not supported.", hint="Ask for n answers.", param="best_of")
        if len(self.prompts) * self.count > _MOST:
            raise BadInput(f"One request may ask for at most {_MOST} answers.", param="n")
        if self.echo and not isinstance(self.prompts[0], str):
            raise Unsupported("echo needs a prompt of text, not of token ids.", param="echo")
        if self.echo and self.logprobs is not None:
            raise Unsupported("echo and logprobs do not go together.", param="echo")
        return self

    @property
    def prompts(self) -> list[str | tuple[int, ...]]:
        """The prompts, one by one."""
        return one_by_one(self.prompt)

    def to_core(self) -> list[GenerationRequest]:
        """The core's requests: for each prompt as many as answers are asked for."""
        options = replace(
            self.options(), logprobs=self.logprobs, max_tokens=self.max_tokens if self.max_tokens else _DEFAULT_TOKENS
        )
        return [copy for prompt in self.prompts for copy in self.copies(GenerationRequest(prompt, options))]


class CompletionReply:
    """One reply to a completion request: whole, or as the chunks of a stream.

    Args:
        model: the model's id.
        request: what was asked.
    """

    def __init__(self, model: str, request: CompletionRequest) -> None:
        self._head = {"id": new_id("cmpl"), "object": "text_completion", "created": int(time.time()), "model": model}
        self._tail = {"usage": None} if request.include_usage else {}
        self._prompts = request.prompts
        self._count = request.count
        self._echo = bool(request.echo)
        self._offsets: dict[int, int] = {}
        self._begun: set[int] = set()
        self._usages: dict[int, Usage] = {}

    @property
    def usage(self) -> Usage:
        """Of all answers that ended."""
        if len(self._usages) < len(self._prompts) * self._count:
            return Usage(0, 0)
        return total([self._usages[i] for i in sorted(self._usages)], prompts=len(self._prompts))

    def whole(self, completions: list[Completion]) -> dict[str, Any]:
        """The reply to a request without streaming."""
        self._usages = {index: completion.usage for index, completion in enumerate(completions)}
        choices = [
            {
                "index": index,
                "text": self._echoed(index) + completion.text,
                "logprobs": self._logprobs(index, completion.logprobs) if completion.logprobs else None,
                "finish_reason": completion.finish_reason,
            }
            for index, completion in enumerate(completions)
        ]
        return {**self._head, "choices": choices, "usage": usage_of(self.usage)}

    def chunks(self, index: int, delta: Delta) -> Iterator[dict[str, Any]]:
        """The chunks for one delta of one answer."""
        text = delta.text
        if index not in self._begun:
            self._begun.add(index)
            text = self._echoed(index) + text
        if text or delta.logprobs:
            yield self._chunk(index, text, logprobs=delta.logprobs)
        if delta.usage is not None:
            self._usages[index] = delta.usage
        if delta.finish_reason is not None:
            yield self._chunk(index, "", finish=delta.finish_reason)

    def empty(self) -> dict[str, Any]:
        """A chunk that says nothing, to keep a connection alive."""
        return self._chunk(0, "")

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk where usage is asked for."""
        return {**self._head, "choices": [], "usage": usage_of(self.usage)}

    def _echoed(self, index: int) -> str:
        prompt = self._prompts[index // self._count]
        return prompt if self._echo and isinstance(prompt, str) else ""

    def _chunk(
        self, index: int, text: str, *, finish: str | None = None, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> dict[str, Any]:
        report = self._logprobs(index, logprobs) if logprobs else None
        choice = {"index": index, "text": text, "logprobs": report, "finish_reason": finish}
        return {**self._head, "choices": [choice], **self._tail}

    def _logprobs(self, index: int, tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
        offsets: list[int] = []
        for token in tokens:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(token.token)
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [finite(token.logprob) for token in tokens],
            "top_logprobs": [{other.token: finite(other.logprob) for other in token.top} for token in tokens],
            "text_offset": offsets,
        }
