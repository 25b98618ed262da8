"""Thousands of random requests against the engine: nothing leaks, nothing gets stuck, every JSON answer is valid.

    python benchmarks/soak.py
    python benchmarks/soak.py --requests 500 --schemas 20

Requests of random lengths, with and without stop strings, penalties, token probabilities, tool calls, JSON Schemas and
a system prompt in common; a good part is cancelled while it waits, reads or answers. The cache is too small for all of
them, so that requests are put back and go on later. Then every one of the random JSON Schemas is answered once. Writes
benchmarks/results/<date>-soak-<machine>.json and ends with 1 if a check fails.
"""

import argparse
import asyncio
import collections
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import llama_cpp
import models
import numpy as np
import psutil
from common import record
from common.figures import rounded
from common.schemas import Schemas

from llama_pajamas_run_core.errors import PajamasError
from llama_pajamas_run_core.types.chat import (
    Chat,
    GenerationOptions,
    GenerationRequest,
    JsonFormat,
    Message,
    Tool,
)
from llama_pajamas_run_gguf.llm import GGUFLLMBackend

#: Requests that are under way at once; more than there are lanes.
_CLIENTS = 24
_LANES = 8
_CONTEXT = 1024
#: Less than the lanes want, so that the cache is one pool and requests give way; or a context for each, in streams.
_CELLS = 2048
#: Seconds after which a request that has not ended counts as stuck.
_PATIENCE = 120.0
#: The part of the run that warms up: allocators, caches of pieces and grammars fill.
_WARM_UP = 0.3
#: The most growth that counts as none, in MiB over a thousand requests.
_GROWTH = 0.25
_SYSTEM = "the quick brown fox jumps over the lazy dog and a small model runs on the edge " * 4
_TOOL = Tool(
    "get_weather",
    "the weather of a city",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["celsius", "kelvin"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
)


class Soak:
    """Random requests against one backend.

    Args:
        backend: the engine.
        requests: how many.
        seed: of everything random.
    """

    def __init__(self, backend: GGUFLLMBackend, requests: int, seed: int) -> None:
        self._backend = backend
        self._wanted = requests
        self._rng = random.Random(seed)
        schemas = Schemas(seed)
        self._schemas = [schemas.make() for _ in range(20)]
        self._begun = 0
        self._process = psutil.Process()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self.memory: list[tuple[int, float]] = []

    async def run(self) -> None:
        """Send all requests."""
        await asyncio.gather(*(self._client() for _ in range(_CLIENTS)))

    async def _client(self) -> None:
        while self._begun < self._wanted:
            self._begun += 1
            number = self._begun
            if number % 50 == 0:
                self.memory.append((number, self._process.memory_info().rss / 2**20))
            kind, request, check = self._request()
            try:
                await asyncio.wait_for(self._one(kind, request, check), _PATIENCE)
            except TimeoutError:
                self._problem(f"{kind}: request {number} was stuck for {_PATIENCE:g} s")
            except PajamasError as error:
                self._problem(f"{kind}: {type(error).__name__}: {error}")

    async def _one(self, kind: str, request: GenerationRequest, check: Callable[[Any], None] | None) -> None:
        leaves = self._rng.randint(0, 12) if self._rng.random() < 0.3 else None
        generation = self._backend.submit(request)
        if leaves == 0:
            await asyncio.sleep(self._rng.choice((0, 0, 0.002)))
            generation.cancel()
            self.outcomes["cancelled at once"] += 1
            return
        text, calls, seen = [], [], 0
        reason = None
        async for delta in generation:
            text.append(delta.text)
            calls += [call.arguments for call in delta.tool_calls]
            seen += 1
            reason = delta.finish_reason or reason
            if leaves is not None and seen >= leaves:
                generation.cancel()
                self.outcomes[f"{kind}: cancelled"] += 1
                return
        self.outcomes[f"{kind}: {reason}"] += 1
        answer = "".join(text)
        for stop in request.options.stop:
            if stop in answer:
                self._problem(f"{kind}: the stop string {stop!r} is in the answer")
        if reason is None:
            self._problem(f"{kind}: no finish reason")
        if check is not None and reason in ("stop", "tool_calls"):
            check("".join(calls) if reason == "tool_calls" else answer)

    def _problem(self, text: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(text)
        self.outcomes["problem"] += 1

    def _request(self) -> tuple[str, GenerationRequest, Callable[[Any], None] | None]:
        rng = self._rng
        options: dict[str, Any] = {
            "max_tokens": rng.choice((1, 4, 16, 48, 120)),
            "temperature": rng.choice((0.0, 0.8, 1.5)),
            "seed": rng.getrandbits(31),
            "priority": rng.choice((0, 0, 0, 1)),
        }
        kind = rng.choice(("text", "text", "stops", "logprobs", "penalties", "chat", "json", "json", "tools"))
        words = " ".join(rng.choices("the quick brown fox model edge llama sleeps".split(), k=rng.randint(1, 300)))
        source: str | Chat = words
        check: Callable[[Any], None] | None = None
        if kind == "stops":
            options["stop"] = tuple(rng.sample(("zq1", " the", "e", "fox", "\n", " mod", "zq77zq"), 2))
        elif kind == "logprobs":
            options["logprobs"] = rng.randint(0, 3)
        elif kind == "penalties":
            options |= {"repeat_penalty": 1.3, "frequency_penalty": 0.5, "logit_bias": {5: -3.0}}
        elif kind == "chat":
            source = Chat((Message("system", _SYSTEM), Message("user", words[:200])))
        elif kind == "json":
            schema = rng.choice(self._schemas)
            options |= {"response_format": JsonFormat(schema), "max_tokens": 400}
            check = self._validator(schema)
        elif kind == "tools":
            source = Chat((Message("user", words[:200]),), tools=(_TOOL,), tool_choice="required")
            source = Chat(source.messages, source.tools, "required", parallel_tool_calls=False)
            options["max_tokens"] = 200
            check = self._validator(dict(_TOOL.parameters))
        return kind, GenerationRequest(source, GenerationOptions(**options)), check

    def _validator(self, schema: dict[str, Any]) -> Callable[[Any], None]:
        def check(answer: str) -> None:
            problem = invalid(answer, schema)
            if problem is not None:
                self._problem(f"invalid JSON: {problem}")

        return check


def invalid(answer: str, schema: dict[str, Any]) -> str | None:
    """Why an answer does not satisfy a schema, or None if it does."""
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    try:
        checker.validate(json.loads(answer))
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{str(error).splitlines()[0]} in {answer[:200]!r} for {json.dumps(schema)[:400]}"
    return None


def check_schemas(backend: GGUFLLMBackend, count: int, seed: int) -> dict[str, Any]:
    """Have random schemas answered, several at once.

    Returns:
        how many answers were valid, how many ended for their length (and are no whole JSON then), and why others were
        not valid or refused.
    """
    schemas = Schemas(seed + 1)
    wanted = [schemas.make() for _ in range(count)]
    found: dict[str, Any] = {"schemas": count, "valid": 0, "cut_by_length": 0, "refused": [], "invalid": []}
    for start in range(0, count, _LANES):
        running = []
        for number, schema in enumerate(wanted[start : start + _LANES], start):
            options = GenerationOptions(
                max_tokens=_CONTEXT - 64, temperature=1.0, seed=number, response_format=JsonFormat(schema)
            )
            try:
                running.append((schema, backend.submit(GenerationRequest("answer in JSON: ", options))))
            except PajamasError as error:
                found["refused"].append(f"{error} for {json.dumps(schema)[:300]}")
        for schema, generation in running:
            completion = generation.result()
            problem = invalid(completion.text, schema)
            if completion.finish_reason == "length":
                found["cut_by_length"] += 1
            elif problem is None:
                found["valid"] += 1
            else:
                found["invalid"].append(problem)
    return found


def cells(backend: GGUFLLMBackend) -> dict[str, int]:
    """What is left in the engine when nobody asks: requests, and cells once the kept beginnings are dropped.

    The ledger's count and llama.cpp's own state are both asked.
    """
    engine = backend._engine
    assert engine is not None

    def count() -> dict[str, int]:
        cache = engine._cache
        kept = cache.ledger.size - cache.ledger.free
        cache.drop_idle()
        memory = llama_cpp.llama_get_memory(engine._context)
        held = sum(llama_cpp.llama_memory_seq_pos_max(memory, slot.id) >= 0 for slot in cache.slots)
        load = engine.load
        return {
            "running": load["running"],
            "waiting": load["waiting"],
            "cells_kept_for_prefixes": kept,
            "cells_used_after_dropping_them": cache.ledger.size - load["cells_free"],
            "sequences_that_llama_cpp_holds": held,
        }

    return backend._ready().run(count)


def slope(memory: list[tuple[int, float]]) -> float | None:
    """Growth in MiB over a thousand requests after the warm-up, by least squares; None of too few samples."""
    after = memory[int(len(memory) * _WARM_UP) :]
    if len(after) < 8:
        return None
    numbers, sizes = np.array(after).T
    return rounded(float(np.polyfit(numbers, sizes, 1)[0]) * 1000)


def main() -> None:
    """Soak, check, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--schemas", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=int, default=_CELLS, help="tokens of the KV cache; 8192 for streams (2048)")
    parser.add_argument("--threads", type=int, default=1, help="to compute with; the model is very small (1)")
    parser.add_argument("--model", type=Path, help="a GGUF file; a tiny one of random weights by default")
    parser.add_argument("--results", type=Path, help="folder of the record; benchmarks/results by default")
    parser.add_argument("--machine", help="the machine's name in the record's file name")
    given = parser.parse_args()
    path = given.model or models.model_path("tiny", "f16")
    options = {"n_ctx": _CONTEXT, "n_lanes": _LANES, "kv_cells": given.cells, "n_threads": given.threads}
    with GGUFLLMBackend(path, **options) as backend:
        soak = Soak(backend, given.requests, given.seed)
        start = time.perf_counter()
        asyncio.run(soak.run())
        seconds = time.perf_counter() - start
        left = cells(backend)
        schemas = check_schemas(backend, given.schemas, given.seed)
        left_after_schemas = cells(backend)
    growth = slope(soak.memory)
    checks = {
        "no_problem": not soak.problems,
        "no_leak": growth is None or growth < _GROWTH,
        "no_stuck_lane": not any(state[key] for state in (left, left_after_schemas) for key in ("running", "waiting")),
        "cells_back_to_zero": not any(
            state[key]
            for state in (left, left_after_schemas)
            for key in ("cells_used_after_dropping_them", "sequences_that_llama_cpp_holds")
        ),
        "all_json_valid": schemas["valid"] == given.schemas,
    }
    found = {
        "model": path.name,
        "settings": {**options, "clients": _CLIENTS, "seed": given.seed},
        "requests": given.requests,
        "seconds": rounded(seconds),
        "checks": checks,
        "outcomes": dict(sorted(soak.outcomes.items())),
        "problems": soak.problems,
        "rss_mib_per_1000_requests_after_warm_up": growth,
        "rss_mib": [[number, rounded(size)] for number, size in soak.memory[:: max(1, len(soak.memory) // 50)]],
        "left": left,
        "left_after_schemas": left_after_schemas,
        "json_schemas": schemas,
    }
    for name in ("outcomes", "problems", "left", "json_schemas", "checks"):
        print(f"{name}: {json.dumps(found[name], indent=1)}")
    print(f"{given.requests} requests in {seconds:.0f} s; growth {growth} MiB over 1000 requests")
    print(f"written to {record.write('soak', found, folder=given.results, name=given.machine)}")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
