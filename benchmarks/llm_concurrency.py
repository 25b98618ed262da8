"""Many streams at once: our server, llama-server and llama_cpp.server on the same model, threads and requests.

    python benchmarks/llm_concurrency.py --llama-server PATH
    python benchmarks/llm_concurrency.py --quick --skip llama-server,llama-server-split,llama-cpp-server

Prints tables and writes benchmarks/results/<date>-llm_concurrency-<machine>.json. README.md says what the columns mean.
Give it a machine that does nothing else: another process on one of the cores makes every figure worthless.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import build_llama_server
import models
from common import record, scenarios, subjects
from common.figures import ratios, rounded, spread
from common.floor import Traffic
from common.prompts import Prompts

PEERS = ("llama-server", "llama-server-split", "llama-cpp-server")
SCENARIOS = ("bare-engine", "shared-prefix", "long-prompt", "greedy-equality")
#: What --quick sets.
_QUICK = {
    "streams": [1, 4],
    "repeats": 2,
    "scenario_repeats": 1,
    "prompt": 32,
    "generated": 24,
    "prefix": 200,
    "long": 600,
    "quiet": 1.0,
    "equal": 4,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="qwen3-150m:q8_0", help="a GGUF file, or SHAPE:QUANTIZATION of models.py")
    add("--streams", type=_numbers, default=[1, 2, 4, 8, 16], help="how many at once (1,2,4,8,16)")
    add("--repeats", type=int, default=5, help="runs of each, the median counts (5)")
    add("--scenario-repeats", type=int, default=5, help="repeats of the shared-prefix and long-prompt scenarios (5)")
    add("--prompt", type=int, default=64, help="tokens of a prompt (64)")
    add("--generated", type=int, default=96, help="tokens of an answer (96)")
    add("--prefix", type=int, default=1000, help="tokens of the shared prefix (1000)")
    add("--long", type=int, default=4000, help="tokens of the long prompt (4000)")
    add("--quiet", type=float, default=4.0, help="seconds of the running streams without the long prompt (4)")
    add("--running", type=int, default=4, help="streams beside the long prompt (4)")
    add("--equal", type=int, default=16, help="requests of the greedy comparison (16)")
    add("--threads", type=int, help="to compute with; the physical cores by default")
    add("--context", type=int, default=4608, help="the most tokens of one request (4608)")
    add("--cells", type=int, help="tokens of the KV cache over all requests; by default the context for each at once")
    add("--cache", choices=("pool", "streams"), help="our KV cache: one pool, a stream for each, or its choice")
    add("--gpu-layers", type=int, default=-1, help="layers on a GPU, -1 for all; without one it does not matter (-1)")
    add("--temperature", type=float, default=0.8, help="of the sampling; 0 is greedy (0.8)")
    add("--ban-end", action="store_true", help="forbid the end token by logit_bias: for trained models")
    add("--bandwidth", type=float, help="of the memory in GB/s, from its data sheet: tells what it allows at most")
    add("--seed", type=int, default=0, help="of the prompts (0)")
    add("--llama-server", type=Path, help="the program; what build_llama_server.py built by default")
    add("--cuda", action="store_true", help="take the llama-server that build_llama_server.py --cuda built")
    add("--skip", type=_words, default=[], help=f"leave out: {', '.join((*PEERS, *SCENARIOS))}")
    add("--quick", action="store_true", help="a minute's look: fewer, shorter runs")
    add("--results", type=Path, help="folder of the record; benchmarks/results by default")
    add("--machine", help="the machine's name in the record's file name")
    given = parser.parse_args()
    for name in given.skip:
        if name not in (*PEERS, *SCENARIOS):
            parser.error(f"there is no {name} to skip; there are {', '.join((*PEERS, *SCENARIOS))}")
    if given.quick:
        for name, value in _QUICK.items():
            if getattr(given, name) == parser.get_default(name):
                setattr(given, name, value)
    if given.long + 1 > given.context:
        parser.error("--long must fit into --context")
    return given


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def setup_of(given: argparse.Namespace) -> subjects.Setup:
    """What all subjects are given alike."""
    from llama_pajamas_run_gguf.threads import default_threads

    path = Path(given.model).expanduser()
    if path.suffix != ".gguf":
        shape, _, quantization = given.model.partition(":")
        path = models.model_path(shape, quantization or "q8_0")
    threads = given.threads or default_threads(path.stat().st_size)
    lanes = max(*given.streams, given.equal, given.running + 1)
    cells = max(given.cells or lanes * given.context, max(given.streams) * (given.prompt + given.generated + 16))
    one_pool = None if given.cache is None else given.cache == "pool"
    return subjects.Setup(path.absolute(), threads, given.context, cells, lanes, given.gpu_layers, one_pool=one_pool)


def server_binary(given: argparse.Namespace) -> Path | None:
    """llama-server, or None where it is left out.

    Raises:
        SystemExit: it is not there.
    """
    needed = {"llama-server", "llama-server-split"} - set(given.skip)
    if not needed and "bare-engine" in given.skip:
        return None
    found = given.llama_server or build_llama_server.binary(cuda=given.cuda)
    if found.is_file():
        return Path(found).absolute()
    if not needed:
        return None
    raise SystemExit(
        "There is no llama-server. Build it (python benchmarks/build_llama_server.py), name one (--llama-server PATH),"
        " or leave it out (--skip llama-server,llama-server-split)."
    )


async def measure(given: argparse.Namespace, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run everything that is asked for.

    Args:
        given: the command line.
        keep: takes what is measured so far, now and then; the last one is whole.
    """
    setup, binary = setup_of(given), server_binary(given)
    prompts = Prompts(setup.model, given.seed)
    bias = {str(prompts.end): -100.0} if given.ban_end else {}
    # All values are given to everybody, since their defaults differ.
    sampling = {"temperature": given.temperature, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "seed": 1}
    sampling |= {"logit_bias": bias} if bias else {}
    before = record.load_average()
    bare = bare_engine(given, setup, binary)
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(server) for server in _servers(given, setup, binary)]
        everybody = [*servers, await stack.enter_async_context(subjects.EngineSubject(setup))]
        runs = await scenarios.throughput(
            everybody,
            prompts,
            given.streams,
            repeats=given.repeats,
            prompt=given.prompt,
            generated=given.generated,
            sampling=sampling,
        )

        def found(extra: dict[str, Any]) -> dict[str, Any]:
            return {
                "model": {"file": setup.model.name, "bytes": setup.model.stat().st_size},
                "settings": _settings(given, setup, sampling),
                "load_average": {"before": before, "after": record.load_average()},
                "subjects": {
                    subject.name: {"arguments": subject.arguments, "peak_rss_mib": subject.peak_rss}
                    for subject in everybody
                },
                "summary": summary(runs, extra, bare),
                "streams": {n: {name: one.told() for name, one in by_name.items()} for n, by_name in runs.items()},
                "bare_engine": {n: {kind: spread(v) for kind, v in kinds.items()} for n, kinds in bare.items()},
                "memory_ceiling": ceiling(given, setup),
                "scenarios": extra,
            }

        extra: dict[str, Any] = {}
        keep(found(extra))
        async for name, told in _extra(given, setup, servers, prompts, sampling):
            extra[name] = told
            keep(found(extra))
        return found(extra)


def _servers(given: argparse.Namespace, setup: subjects.Setup, binary: Path | None) -> list[subjects.HttpSubject]:
    servers = [subjects.ours(setup)]
    if "llama-server" not in given.skip and binary is not None:
        servers.append(subjects.llama_server(setup, binary, unified=True))
    if "llama-server-split" not in given.skip and binary is not None:
        servers.append(subjects.llama_server(setup, binary, unified=False))
    if "llama-cpp-server" not in given.skip:
        servers.append(subjects.llama_cpp_server(setup))
    return servers


def bare_engine(
    given: argparse.Namespace, setup: subjects.Setup, binary: Path | None
) -> dict[int, dict[str, list[float]]]:
    """llama.cpp's own tool, several times."""
    bench = None if binary is None else binary.with_name(binary.name.replace("llama-server", "llama-batched-bench"))
    if "bare-engine" in given.skip or bench is None or not bench.is_file():
        return {}
    found: dict[int, dict[str, list[float]]] = {n: {"total": [], "decoding": []} for n in given.streams}
    for _ in range(min(given.repeats, 3)):
        rows = subjects.bare_engine(setup, bench, prompt=given.prompt, generated=given.generated, streams=given.streams)
        for count, row in rows.items():
            for kind, value in row.items():
                found[count][kind].append(value)
    return found


def ceiling(given: argparse.Namespace, setup: subjects.Setup) -> dict[str, Any] | None:
    """Tokens per second that the memory's bandwidth allows while decoding, by the number of streams."""
    if not given.bandwidth:
        return None
    traffic, tokens = Traffic.of(setup.model), given.prompt + given.generated / 2
    allowed = {n: rounded(traffic.ceiling(n, tokens, given.bandwidth * 1e9)) for n in given.streams}
    return {"gb_per_second": given.bandwidth, "tokens_per_second": allowed}


async def _extra(
    given: argparse.Namespace,
    setup: subjects.Setup,
    servers: Sequence[subjects.HttpSubject],
    prompts: Prompts,
    sampling: dict[str, Any],
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    room = (setup.cells - given.long - 512) // given.running
    one_cache = [server for server in servers if server.name != "llama-server-split"]
    side_by_side = [server for server in one_cache if server.name != "llama-cpp-server"]  # that runs one at a time

    async def equality() -> dict[str, Any]:
        """With llama.cpp's choice of attention kernels, and without the fused ones."""
        told = {}
        for name, flash in (("as_loaded", None), ("without_fused_attention", False)):
            async with subjects.EngineSubject(replace(setup, flash_attention=flash)) as engine:
                told[name] = await scenarios.greedy_equality(
                    engine,
                    prompts,
                    requests=given.equal,
                    prompt=given.prompt,
                    generated=given.generated,
                    bias=sampling.get("logit_bias", {}),
                )
        return told

    wanted: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "shared-prefix": lambda: scenarios.shared_prefix(
            one_cache, prompts, repeats=given.scenario_repeats, prefix=given.prefix, followers=4, sampling=sampling
        ),
        "long-prompt": lambda: scenarios.long_prompt(
            side_by_side,
            prompts,
            repeats=given.scenario_repeats,
            running=given.running,
            prompt=given.prompt,
            length=given.long,
            quiet=given.quiet,
            context=min(setup.context, room),
            sampling=sampling,
        ),
        "greedy-equality": equality,
    }
    for name, scenario in wanted.items():
        if name in given.skip:
            continue
        try:
            told = await scenario()
        except RuntimeError as error:  # what was measured before is worth keeping
            print(f"{name} failed: {error}", file=sys.stderr)
            told = {"failed": str(error)}
        yield name.replace("-", "_"), told


def summary(
    runs: dict[int, dict[str, scenarios.Runs]],
    extra: dict[str, Any],
    bare: dict[int, dict[str, list[float]]],
) -> dict[str, Any]:
    """The figures that matter most; ratios are of what ran side by side in one repeat, their median first."""
    told: dict[str, Any] = {}
    spreads: dict[str, Any] = {}

    def note(name: str, found: dict[int, dict[str, Any]]) -> None:
        found = {count: values for count, values in found.items() if values["median"] is not None}
        if found:
            told[name] = {count: values["median"] for count, values in found.items()}
            spreads[name] = {count: [values["low"], values["high"]] for count, values in found.items()}

    for peer in PEERS:
        key = "vs_" + peer.replace("-", "_")
        known = {count: by_name for count, by_name in runs.items() if peer in by_name}
        note(key, {n: ratios(by_name["ours"].totals, by_name[peer].totals) for n, by_name in known.items()})
        note(f"ttft_p95_{key}", {n: ratios(by_name["ours"].late, by_name[peer].late) for n, by_name in known.items()})
    note("vs_engine", {n: ratios(by_name["ours"].totals, by_name["engine"].totals) for n, by_name in runs.items()})
    least = min(runs)
    note("vs_fewest_streams", {n: ratios(by["ours"].totals, runs[least]["ours"].totals) for n, by in runs.items()})
    told["in_process_ceiling"] = {
        count: {
            "engine": spread(by_name["engine"].totals)["median"],
            "llama_batched_bench": spread(bare[count]["total"])["median"] if count in bare else None,
        }
        for count, by_name in runs.items()
    }
    for scenario, figure in (("shared_prefix", "later_over_first"), ("long_prompt", "p99_beside_over_without")):
        for name, values in extra.get(scenario, {}).items():
            if name == "failed":
                continue
            told.setdefault(f"{scenario}_{figure}", {})[name] = values[figure]["median"]
            spreads.setdefault(f"{scenario}_{figure}", {})[name] = [values[figure]["low"], values[figure]["high"]]
    for kernels, compared in extra.get("greedy_equality", {}).items():
        if kernels != "failed":
            shares = {name: values["share"] for name, values in compared.items() if isinstance(values, dict)}
            told.setdefault("greedy_equality_share", {})[kernels] = shares
    return {**told, "spread": spreads}


def _settings(given: argparse.Namespace, setup: subjects.Setup, sampling: dict[str, Any]) -> dict[str, Any]:
    return {
        "threads": setup.threads,
        "context": setup.context,
        "cells": setup.cells,
        "lanes": setup.lanes,
        "gpu_layers": setup.gpu_layers,
        "streams": given.streams,
        "repeats": given.repeats,
        "prompt_tokens": given.prompt,
        "generated_tokens": given.generated,
        "prefix_tokens": given.prefix,
        "long_prompt_tokens": given.long,
        "running_streams": given.running,
        "sampling": sampling,
        "seed": given.seed,
        "cpus": os.cpu_count(),
    }


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    head = "streams subject tok/s low high each ttft50 ttft95 ttft99 gap50 gap95 gap99 errors wrong".split()
    rows = []
    for count, by_name in found["streams"].items():
        for name, values in by_name.items():
            total, first, gaps = values["tokens_per_second"], values["ttft_ms"], values["inter_token_ms"]
            each = values["tokens_per_second_per_stream"]
            counted = [values["errors"], values["wrong_length"]]
            rows.append(
                [count, name, total["median"], total["low"], total["high"], each, *first.values(), *gaps.values()]
                + counted
            )
    print(record.table(head, rows), end="\n\n")
    shown = found["summary"]
    for name, values in shown.items():
        if name != "spread":
            spreads = shown["spread"].get(name, {})
            parts = (f"{key}: {_with(value, spreads.get(key))}" for key, value in values.items())
            print(f"{name}: {'; '.join(parts)}")
    for count, kinds in found["bare_engine"].items():
        print(f"llama-batched-bench, {count} streams, decoding alone: {kinds['decoding']['median']} tokens/s")
    if found["memory_ceiling"]:
        print(f"the memory allows (tokens/s while decoding): {found['memory_ceiling']['tokens_per_second']}")
    print()
    for name, about in found["subjects"].items():
        print(f"{name}: peak memory {about['peak_rss_mib']} MiB")


def _with(value: object, span: Sequence[float] | None) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return f"{value} ({span[0]} to {span[1]})" if span else str(value)


def main() -> None:
    """Measure, print, write."""
    given = arguments()
    busy = record.load_average()
    if busy is not None and busy > 0.5:
        print(f"The machine is busy (load average {busy}): the figures will be worth little.", file=sys.stderr)
    path: Path | None = None

    def keep(found: dict[str, Any]) -> None:
        nonlocal path
        path = record.write("llm_concurrency", found, folder=given.results, name=given.machine, path=path)

    # The servers are to end with this process, also where it is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    show(asyncio.run(measure(given, keep)))
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
