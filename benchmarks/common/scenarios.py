"""The scenarios of the concurrency benchmark."""

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

from common.figures import percentile, percentiles, rounded, spread
from common.load import Answer, Ask, now
from common.prompts import Prompts
from common.subjects import EngineSubject, HttpSubject, Subject

Sampling = dict[str, Any]

#: Seconds before a run, so that what a subject tidies up after its answers is not in the next one's.
_PAUSE = 0.5


class Runs:
    """All runs of one subject with one number of streams.

    Args:
        wanted: tokens that every answer must have.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.totals: list[float] = []
        self.late: list[float] = []
        self._per_stream: list[float] = []
        self._first: list[float] = []
        self._gaps: list[float] = []
        self._errors: list[str] = []
        self._short = 0
        self._prompt_tokens: set[int] = set()

    def add(self, answers: Sequence[Answer]) -> None:
        """Note one run."""
        good = [answer for answer in answers if answer.error is None and answer.times]
        self._errors += [answer.error or "no token came" for answer in answers if answer not in good]
        self._short += sum(answer.tokens != self._wanted for answer in good)
        self._prompt_tokens |= {answer.prompt_tokens for answer in good if answer.prompt_tokens is not None}
        seconds = max((a.ended for a in good), default=0.0) - min((a.asked for a in good), default=0.0)
        self.totals.append(sum(answer.tokens for answer in good) / seconds if seconds > 0 else 0.0)
        self.late.append(percentile([answer.first for answer in good], 95))
        self._per_stream += [answer.tokens / (answer.ended - answer.asked) for answer in good]
        self._first += [answer.first for answer in good]
        self._gaps += [gap for answer in good for gap in answer.gaps]

    def told(self) -> dict[str, Any]:
        """The figures; times in milliseconds."""
        return {
            "tokens_per_second": spread(self.totals),
            "tokens_per_second_per_stream": rounded(statistics.median(self._per_stream)) if self._per_stream else None,
            "ttft_ms": percentiles(self._first),
            "inter_token_ms": percentiles(self._gaps),
            "requests": len(self._first) + len(self._errors),
            "errors": len(self._errors),
            "error_examples": sorted(set(self._errors))[:3],
            "wrong_length": self._short,
            "prompt_tokens": sorted(self._prompt_tokens),
        }


async def throughput(
    subjects: Sequence[Subject],
    prompts: Prompts,
    streams: Sequence[int],
    *,
    repeats: int,
    prompt: int,
    generated: int,
    sampling: Sampling,
) -> dict[int, dict[str, Runs]]:
    """Many streams at once, the subjects taking turns.

    Args:
        subjects: in each repeat another one begins.
        prompts: every request has its own, the same for all subjects.
        streams: how many at once.
        repeats: runs of each.
        prompt: tokens of a prompt.
        generated: tokens of an answer.
        sampling: of all requests.
    """
    runs = {count: {subject.name: Runs(generated) for subject in subjects} for count in streams}
    for repeat in range(-1, repeats):  # the first warms up and is not counted
        for count in streams if repeat >= 0 else [max(streams)]:
            asks = _load(prompts, count, repeat, prompt, generated, sampling)
            for subject in _rotated(subjects, repeat):
                await asyncio.sleep(_PAUSE)
                answers = await subject.run(asks)
                if repeat >= 0:
                    runs[count][subject.name].add(answers)
    return runs


def _load(
    prompts: Prompts, streams: int, repeat: int, prompt: int, generated: int, sampling: Sampling
) -> list[list[Ask]]:
    """Few streams send several requests, so that a run takes long enough to be measured."""
    each = max(1, 4 // streams)
    return [
        [
            Ask(prompts.make(prompt, "load", streams, repeat, s, r), generated, {**sampling, "seed": 1000 * s + r})
            for r in range(each)
        ]
        for s in range(streams)
    ]


async def shared_prefix(
    subjects: Sequence[HttpSubject],
    prompts: Prompts,
    *,
    repeats: int,
    prefix: int,
    followers: int,
    sampling: Sampling,
) -> dict[str, Any]:
    """Requests that begin alike, one after the other: time to the first token of the first and of the later ones."""
    first: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    later: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    quotients: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for repeat in range(repeats):
        beginning = prompts.make(prefix, "prefix", repeat)
        asks = [
            Ask(prompts.make(prefix + 32, "question", repeat, number, after=beginning), 8, sampling)
            for number in range(followers + 1)
        ]
        for subject in _rotated(subjects, repeat):
            times = [_first(await subject.ask(ask)) for ask in asks]
            first[subject.name].append(times[0])
            later[subject.name] += times[1:]
            quotients[subject.name].append(statistics.median(times[1:]) / times[0])
    return {
        name: {
            "first_ttft_ms": percentiles(first[name]),
            "later_ttft_ms": percentiles(later[name]),
            "later_over_first": spread(quotients[name]),
        }
        for name in first
    }


async def long_prompt(
    subjects: Sequence[HttpSubject],
    prompts: Prompts,
    *,
    repeats: int,
    running: int,
    prompt: int,
    length: int,
    quiet: float,
    context: int,
    sampling: Sampling,
) -> dict[str, Any]:
    """A long prompt beside running streams: their gaps between tokens while it is read, and without it.

    What is compared are the gaps between the very same tokens: every token of an answer takes longer than the one
    before it, so that others would say more of the answers' lengths than of the prompt beside them.

    Args:
        subjects: those that run streams side by side.
        prompts: every request has its own.
        repeats: of it all.
        running: streams.
        prompt: tokens of the streams' prompts.
        length: tokens of the long prompt.
        quiet: seconds of the streams alone before it comes.
        context: the most tokens of one request.
        sampling: of all requests.
    """
    before: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    during: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    quotients: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    reading: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for repeat in range(repeats):
        short = [
            Ask(prompts.make(prompt, "running", repeat, number), context - prompt, sampling)
            for number in range(running)
        ]
        long = Ask(prompts.make(length, "long", repeat), 1, sampling)
        for subject in _rotated(subjects, repeat):
            answers, asked, seen = await _beside(subject, short, long, quiet)
            spans = [_span(answer, asked, seen) for answer in answers]
            most = max(span.stop for span in spans)
            again = [Ask(prompts.make(prompt, "alone", repeat, n), most + 1, sampling) for n in range(running)]
            alone = _gaps(await subject.run([[ask] for ask in again]), spans)
            beside = _gaps(answers, spans)
            before[subject.name] += alone
            during[subject.name] += beside
            quotients[subject.name].append(percentile(beside, 99) / percentile(alone, 99))
            reading[subject.name].append(seen - asked)
    return {
        name: {
            "inter_token_ms_without": percentiles(before[name]),
            "inter_token_ms_beside": percentiles(during[name]),
            "p99_beside_over_without": spread(quotients[name]),
            "long_prompt_ttft_ms": percentiles(reading[name]),
        }
        for name in before
    }


async def _beside(subject: HttpSubject, short: list[Ask], long: Ask, quiet: float) -> tuple[list[Answer], float, float]:
    """The streams' answers, and when the long prompt was sent, and when its answer began."""
    done = False
    begun: set[int] = set()
    tasks = [
        asyncio.create_task(subject.ask(ask, seen=lambda number=number: begun.add(number), leave=lambda: done))  # type: ignore[misc]
        for number, ask in enumerate(short)
    ]
    while len(begun) < len(short):
        if any(task.done() for task in tasks):
            break
        await asyncio.sleep(0.005)
    await asyncio.sleep(quiet)
    asked = now()
    answer = await subject.ask(long)
    done = True
    answers = await asyncio.gather(*tasks)
    for problem in (other.error for other in (answer, *answers)):
        if problem is not None:
            raise RuntimeError(f"{subject.name} beside a long prompt: {problem}")
    if any(other.times[-1] < answer.times[0] for other in answers):
        raise RuntimeError(f"{subject.name}: a stream ended before the long prompt was read; raise --context")
    return answers, asked, answer.times[0]


def _span(answer: Answer, start: float, end: float) -> range:
    """Which of an answer's gaps between tokens overlap a span of time."""
    pairs = enumerate(zip(answer.times, answer.times[1:], strict=False))
    numbers = [number for number, (earlier, later) in pairs if later > start and earlier < end]
    return range(numbers[0], numbers[-1] + 1) if numbers else range(0)


def _gaps(answers: Sequence[Answer], spans: Sequence[range]) -> list[float]:
    """The gaps between tokens of those numbers."""
    return [
        answer.times[number + 1] - answer.times[number]
        for answer, span in zip(answers, spans, strict=True)
        for number in span
        if number + 1 < len(answer.times)
    ]


async def greedy_equality(
    engine: EngineSubject, prompts: Prompts, *, requests: int, prompt: int, generated: int, bias: dict[str, float]
) -> dict[str, Any]:
    """The likeliest tokens of requests alone, all at once, and as llama_cpp.Llama gives them.

    Where two differ, the lead of the first differing token over the runner-up tells whether rounding can have swapped
    them: kernels for one row and for many add up in another order, and llama.cpp's fused attention depends on where in
    the cache a sequence lies.
    """
    sampling = {"temperature": 0.0, **({"logit_bias": bias} if bias else {})}
    asks = [
        {"prompt": prompts.make(prompt, "greedy", number), "max_tokens": generated, "sampling": sampling}
        for number in range(requests)
    ]
    alone = await engine.command(greedy=asks, together=False)
    together = await engine.command(greedy=asks, together=True)
    again = await engine.command(greedy=asks, together=False)
    told = {
        "requests": requests,
        "tokens_each": generated,
        "alone_against_among_others": _compare(alone, together),
        "alone_against_alone_again": _compare(alone, again),
    }
    if not bias:  # llama_cpp.Llama takes a bias as a Python function alone
        reference = await engine.command(reference=asks)
        told["alone_against_llama_cpp_python"] = _compare(alone, reference)
    return told


def _compare(answers: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, Any]:
    same, leads, places = 0, [], []
    for answer, other in zip(answers, others, strict=True):
        one, two = answer["tokens"], other["tokens"]
        place = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
        if place is None:
            same += len(one) == len(two)
            continue
        places.append(place)
        leads.append(answer["leads"][place])
    return {
        "identical": same,
        "share": rounded(same / len(answers)),
        "first_difference_at_token": places,
        "lead_over_runner_up_nats": [rounded(lead) for lead in leads],
    }


def _first(answer: Answer) -> float:
    if answer.error is not None or not answer.times:
        raise RuntimeError(f"a request failed: {answer.error or 'no token came'}")
    return answer.first


def _rotated(subjects: Sequence[Any], repeat: int) -> list[Any]:
    start = repeat % len(subjects) if subjects else 0
    return [*subjects[start:], *subjects[:start]]
