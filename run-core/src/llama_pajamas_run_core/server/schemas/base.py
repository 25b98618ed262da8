"""What the wire types of all endpoints share."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from llama_pajamas_run_core.types.chat import Usage


class Wire(BaseModel):
    """A JSON request: no conversions between types ("0.5" is no number), unknown fields ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: An integer; clients that know one kind of number alone write 1 as 1.0.
Int = Annotated[int, BeforeValidator(_whole)]


def one_by_one(source: str | Sequence[Any]) -> list[str | tuple[int, ...]]:
    """Texts or token ids, however they were given: one text, one list of ids, or a list of either."""
    if isinstance(source, str):
        return [source]
    items: list[Any] = list(source)
    if items and isinstance(items[0], int):
        return [tuple(items)]
    return [item if isinstance(item, str) else tuple(item) for item in items]


def new_id(prefix: str) -> str:
    """A unique id in OpenAI's style."""
    return f"{prefix}-{uuid.uuid4().hex}"


def usage_of(usage: Usage) -> dict[str, Any]:
    """Token counts on the wire."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def total(usages: list[Usage], *, prompts: int = 1) -> Usage:
    """The usage of several answers together: each prompt counts once, however many answers it got.

    Args:
        usages: of all answers, those of one prompt beside each other.
        prompts: how many prompts there were.
    """
    each = len(usages) // prompts
    return Usage(
        sum(usage.prompt_tokens for usage in usages[::each]),
        sum(usage.completion_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages[::each]),
        sum(usage.reasoning_tokens for usage in usages),
    )
