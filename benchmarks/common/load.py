"""The load that all subjects are put under, and what is noted about each answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        prompt: raw text.
        max_tokens: how long the answer is to be.
        sampling: temperature, top_k, top_p, min_p, seed, logit_bias.
    """

    prompt: str
    max_tokens: int
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """What came back for one request.

    Attributes:
        asked: when it was sent, in seconds of a monotonic clock.
        times: when each token arrived.
        ended: when the answer ended.
        tokens: how many tokens the subject says that it generated; those that arrived where it does not say.
        prompt_tokens: how many the prompt had, None where the subject does not say.
        cached_tokens: of the prompt, not computed again; None where the subject does not say.
        error: what went wrong, or None.
    """

    asked: float
    times: list[float] = field(default_factory=list)
    ended: float = 0.0
    tokens: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    error: str | None = None

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.asked

    @property
    def gaps(self) -> list[float]:
        """Seconds between one token and the next."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


#: Asks and waits for the end of the answer.
Asker = Callable[[Ask], Awaitable[Answer]]


async def run_streams(streams: Sequence[Sequence[Ask]], ask: Asker) -> list[Answer]:
    """Closed loop: every stream sends its next request when the last one is answered; all start at once.

    Args:
        streams: the requests of each.
        ask: the subject.
    """

    async def one(asks: Sequence[Ask]) -> list[Answer]:
        return [await ask(request) for request in asks]

    return [answer for answers in await asyncio.gather(*map(one, streams)) for answer in answers]


def now() -> float:
    """Seconds of the clock that all times are read from."""
    return time.perf_counter()
