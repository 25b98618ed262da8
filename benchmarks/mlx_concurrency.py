"""Does MLX serve eight chats at once: the same answers, faster than one after the other, and a server that stays awake?

    uv run python benchmarks/mlx_concurrency.py
    uv run python benchmarks/mlx_concurrency.py --model Qwen3-0.6B-4bit --max-tokens 128     # on a Mac

Starts the server of run-core with the MLX backend as a process of its own. In each repeat the same chats are asked one
after the other and all at once; meanwhile another process asks for ``/health`` again and again.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
from common import our_server, record
from common.figures import percentile, percentiles, rounded, spread

#: Seconds between two looks at /health.
_PAUSE = 0.02
#: What the server must do.
_HEALTH_MS = 50.0
#: What makes a step do more in Python: a grammar, sampling, and a report of probabilities.
_STEERED: dict[str, Any] = {
    "temperature": 1,
    "seed": 1,
    "logprobs": True,
    "top_logprobs": 5,
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "schema": {
                "type": "object",
                "properties": {"answer": {"type": "string", "maxLength": 40}, "sure": {"type": "boolean"}},
                "required": ["answer", "sure"],
                "additionalProperties": False,
            },
        },
    },
}
_QUESTIONS = (
    "What is twelve plus thirty?", "Hello! Who are you?", "What is seven times eight?", "Tell me a joke, please.",
    "What is ninety minus forty-five?", "Thank you very much!", "How many minutes are in two hours?",
    "What is one hundred divided by four?", "What is sixty plus eleven?", "How many days are in a week?",
    "What is nine times nine?", "What can you do?", "What is thirty minus twelve?", "How many grams are in a kilogram?",
    "What is fifteen plus eighty?", "What is forty-two divided by six?",
)  # fmt: skip


@contextlib.contextmanager
def server(model: Path, options: dict[str, Any]) -> Iterator[str]:
    """The server's address."""
    given = json.dumps({"model": str(model), "runtime": "mlx", "options": options})
    process = subprocess.Popen([sys.executable, our_server.__file__, given], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(30)


def watch(url: str, begun: Event, stop: Event, answer: Any) -> None:
    """Ask for /health until told to stop; send the seconds that each took, and how many failed."""
    seconds, failed = [], 0
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        client.get("/health")  # the connection is made
        begun.set()
        while not stop.is_set():
            start = time.perf_counter()
            try:
                failed += client.get("/health").status_code != 200
            except httpx.HTTPError:
                failed += 1
            seconds.append(time.perf_counter() - start)
            time.sleep(_PAUSE)
    answer.put((seconds, failed))


@contextlib.contextmanager
def watched(url: str, found: list[tuple[list[float], int]]) -> Iterator[None]:
    """Watch /health meanwhile, from a process of its own: what delays it must not be the client's own work."""
    context = multiprocessing.get_context("spawn")
    begun, stop, answer = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=watch, args=(url, begun, stop, answer))
    process.start()
    begun.wait(60)
    try:
        yield
    finally:
        stop.set()
        found.append(answer.get(timeout=30))
        process.join()


async def chat(
    client: httpx.AsyncClient, question: str, max_tokens: int, more: dict[str, Any]
) -> tuple[str, int]:  # fmt: skip
    """(answer, its tokens)."""
    body = {
        "model": our_server.MODEL,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": max_tokens,
        **more,
    }
    reply = await client.post("/v1/chat/completions", json=body)
    reply.raise_for_status()
    made = reply.json()
    return made["choices"][0]["message"]["content"], made["usage"]["completion_tokens"]


async def ask(
    url: str, questions: Sequence[str], max_tokens: int, streams: int, **more: Any
) -> tuple[float, list[str], int]:
    """Ask all questions, so many at once; further arguments go into each request.

    Returns:
        seconds, the answers in the questions' order, tokens generated.
    """
    gate = asyncio.Semaphore(streams)
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:

        async def one(question: str) -> tuple[str, int]:
            async with gate:
                return await chat(client, question, max_tokens, more)

        begun = time.perf_counter()
        made = await asyncio.gather(*map(one, questions))
        return time.perf_counter() - begun, [text for text, _ in made], sum(tokens for _, tokens in made)


def measure(url: str, asked: argparse.Namespace) -> dict[str, Any]:
    """All repeats."""
    questions = [_QUESTIONS[number % len(_QUESTIONS)] for number in range(asked.chats)]
    asyncio.run(ask(url, questions[:2], 4, 2))  # warm
    runs: dict[int, list[float]] = {1: [], asked.streams: []}
    health: dict[int, list[tuple[list[float], int]]] = {1: [], asked.streams: []}
    answers: list[list[str]] = []
    ratios: list[float] = []
    for repeat in range(asked.repeats):
        order = (1, asked.streams) if repeat % 2 == 0 else (asked.streams, 1)
        rates = {}
        for streams in order:
            with watched(url, health[streams]):
                seconds, texts, tokens = asyncio.run(ask(url, questions, asked.max_tokens, streams))
            rates[streams] = tokens / seconds
            runs[streams].append(rates[streams])
            answers.append(texts)
        ratios.append(rates[asked.streams] / rates[1])
    steered: list[tuple[list[float], int]] = []
    with watched(url, steered):
        _, documents, _ = asyncio.run(ask(url, questions, 2 * asked.max_tokens, asked.streams, **_STEERED))
    idle: list[tuple[list[float], int]] = []
    with watched(url, idle):
        time.sleep(3)
    busy = [second for seconds, _ in health[asked.streams] for second in seconds]
    beside_json = [second for seconds, _ in steered for second in seconds]
    return {
        "answers_equal": all(texts == answers[0] for texts in answers),
        "answers": dict(zip(questions, answers[0], strict=True)),
        "tokens_per_second": {str(streams): spread(values) for streams, values in runs.items()},
        "speedup": spread(ratios),
        "health": {
            "busy_ms": {**percentiles(busy), "max": rounded(max(busy) * 1000), "requests": len(busy)},
            "busy_with_json_ms": {**percentiles(beside_json), "requests": len(beside_json)},
            "idle_ms": percentiles([second for seconds, _ in idle for second in seconds]),
            "failed": sum(failed for _, failed in [*health[asked.streams], *steered]),
        },
        "checks": {
            "answers_equal": all(texts == answers[0] for texts in answers),
            "faster_at_once": min(ratios) > 1,
            "json_is_json": all(isinstance(json.loads(document), dict) for document in documents),
            "health_p99_within_50_ms": max(percentile(busy, 99), percentile(beside_json, 99)) * 1000 <= _HEALTH_MS,
        },
    }


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder that mlx-lm loads; the starter chat model by default")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--chats", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32", help="what to compute in; CPUs are slow in 16 bits")
    parser.add_argument("--folder", type=Path, help="where the record goes; benchmarks/results by default")
    asked = parser.parse_args()
    model = asked.model
    if model is None:
        from llama_pajamas_starter.chat import checkpoint

        model = checkpoint()
    # No cache of earlier prompts: every chat is read from its beginning, alone and among others.
    options = {"n_ctx": 1024, "n_lanes": asked.streams, "prompt_cache_mb": 0, "dtype": asked.dtype}
    before = record.load_average()
    with server(model, options) as url:
        found = measure(url, asked)
    load = {"before": before, "after": record.load_average()}
    path = record.write(
        "mlx-concurrency", {"model": model.name, "options": options, "load_average": load, **found}, folder=asked.folder
    )
    rows = [[streams, one["median"], one["low"], one["high"]] for streams, one in found["tokens_per_second"].items()]
    print(record.table(["chats at once", "tok/s", "low", "high"], rows))
    print(f"speedup {found['speedup']['median']}, health p99 {found['health']['busy_ms']['p99']} ms, {found['checks']}")
    print(path.name)
    if not all(found["checks"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
