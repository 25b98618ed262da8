"""How to generate: what the requests for chat and for raw text have in common."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.schemas.base import Int, Wire
from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest


class StreamOptions(Wire):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None


class Sampling(Wire):
    """How to generate: what chat and raw completions have in common."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    seed: Annotated[Int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: str | Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=4)] | None = None
    n: Annotated[Int, Field(ge=1, le=8)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=1024)] | None = None
    max_tokens: Annotated[Int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    priority: Annotated[Int, Field(ge=-100, le=100)] | None = None
    adapter: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _streaming(self) -> "Sampling":
        if self.stream_options is not None and not self.stream:
            raise BadInput("stream_options is only allowed with stream: true.", param="stream_options")
        return self

    @property
    def count(self) -> int:
        """How many answers are asked for."""
        return 1 if self.n is None else self.n

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def options(self) -> GenerationOptions:
        """The core's options, as far as they are shared."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return GenerationOptions(
            max_tokens=self.max_tokens,
            stop=tuple(text for text in stop if text),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_penalty=self.repeat_penalty,
            seed=self.seed,
            logit_bias={_token_id(token): bias for token, bias in (self.logit_bias or {}).items()},
            adapter=self.adapter,
            priority=self.priority or 0,
        )

    def copies(self, request: GenerationRequest) -> list[GenerationRequest]:
        """The request once for each answer asked for; with a seed, each gets one of its own, or all would be alike."""
        seed = request.options.seed
        if seed is None:
            return [request] * self.count
        return [replace(request, options=replace(request.options, seed=seed + i)) for i in range(self.count)]


def _token_id(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadInput("The keys of logit_bias are token ids.", param="logit_bias")
    return int(text)
