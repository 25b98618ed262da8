"""What is measured: servers, each a process of its own, and the engine without a server."""

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

from common import our_server
from common.client import complete, open_client
from common.load import Answer, Ask, now, run_streams
from common.record import peak_rss

HERE = Path(__file__).resolve().parent
#: Seconds that a subject may take to load its model.
_LOADING = 600.0
#: What `python -m llama_cpp.server` imports that llama-cpp-python alone does not bring.
_SERVER_PACKAGES = ("fastapi", "uvicorn", "pydantic_settings", "sse_starlette", "starlette_context")


@dataclass(frozen=True, slots=True)
class Setup:
    """What all subjects are given alike.

    Attributes:
        model: the GGUF file.
        threads: to compute with.
        context: the most tokens of one request.
        cells: tokens of the KV cache over all requests.
        lanes: requests worked on at once.
        gpu_layers: layers on the GPU, -1 for all, 0 for none.
        flash_attention: False for our engine to do without the fused attention kernels.
        one_pool: whether our engine keeps all requests' keys and values in one pool, or in a stream for each; None for
            what it chooses itself.
    """

    model: Path
    threads: int
    context: int
    cells: int
    lanes: int
    gpu_layers: int
    flash_attention: bool | None = None
    one_pool: bool | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Load options of the GGUF backend."""
        return {
            "n_ctx": self.context,
            "n_lanes": self.lanes,
            "n_threads": self.threads,
            "n_gpu_layers": self.gpu_layers,
            "kv_cells": self.cells,
            **({} if self.flash_attention is None else {"flash_attention": self.flash_attention}),
            **({} if self.one_pool is None else {"kv_unified": self.one_pool}),
        }


class Subject(ABC):
    """Something that answers requests.

    Attributes:
        name: in tables and records.
        arguments: how it was started, in words that hold on any machine.
    """

    name: str
    arguments: list[str]
    _process: "subprocess.Popen[bytes]"

    @abstractmethod
    async def run(self, streams: Sequence[Sequence[Ask]]) -> list[Answer]:
        """Put it under a load."""

    @property
    def peak_rss(self) -> float | None:
        """The most memory it has had, in MiB."""
        return peak_rss(self._process.pid)

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    @abstractmethod
    async def _open(self) -> None: ...

    async def _close(self) -> None:
        if hasattr(self, "_process"):
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
            self._process.kill()
            self._process.wait()


class HttpSubject(Subject):
    """A server of OpenAI's completions.

    Args:
        name: in tables and records.
        command: starts it, given a free port.
        model: the model's name there.
        announced: whether it prints its address instead of listening on the port it is given.
        arguments: what to tell about how it was started.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[int], list[str]],
        *,
        arguments: list[str],
        model: str = "model",
        announced: bool = False,
    ) -> None:
        self.name, self.arguments = name, arguments
        self._command, self._model, self._announced = command, model, announced

    async def ask(
        self, ask: Ask, *, seen: Callable[[], None] | None = None, leave: Callable[[], bool] | None = None
    ) -> Answer:
        """Send one request; arguments as of :func:`common.client.complete`."""
        return await complete(self._client, ask, model=self._model, seen=seen, leave=leave)

    async def run(self, streams: Sequence[Sequence[Ask]]) -> list[Answer]:
        return await run_streams(streams, self.ask)

    async def _open(self) -> None:
        port = _free_port()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the process
        self._process = subprocess.Popen(
            self._command(port),
            stdout=subprocess.PIPE if self._announced else self._log,
            stderr=self._log,
        )
        url = f"http://127.0.0.1:{port}"
        if self._announced:
            assert self._process.stdout is not None
            url = (await asyncio.to_thread(self._process.stdout.readline)).decode().strip() or url
        self._client = open_client(url)
        give_up = now() + _LOADING
        while (answer := await self.ask(Ask("hello", 1, {"temperature": 0.0}))).error is not None:
            # One that announces itself has loaded its model by then, or has failed to.
            failed = self._announced and answer.error.startswith("HTTP")
            if failed or self._process.poll() is not None or now() > give_up:
                raise RuntimeError(f"{self.name} does not answer: {answer.error}\n{self._tail()}")
            await asyncio.sleep(0.1)

    async def _close(self) -> None:
        if hasattr(self, "_client"):
            await self._client.aclose()
        await super()._close()
        if hasattr(self, "_process") and self._process.stdout is not None:
            self._process.stdout.close()
        if hasattr(self, "_log"):
            self._log.close()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read()[-3000:].decode("utf-8", "replace")


class EngineSubject(Subject):
    """Our engine without a server.

    Args:
        setup: how it is loaded.
    """

    name = "engine"

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.arguments = ["GGUFLLMBackend", *(f"{name}={value}" for name, value in setup.options.items())]
        #: What the loaded backend says about itself.
        self.details: dict[str, Any] = {}

    async def run(self, streams: Sequence[Sequence[Ask]]) -> list[Answer]:
        answers = await self.command(streams=[[asdict(ask) for ask in stream] for stream in streams])
        return [Answer(**answer) for answer in answers]

    async def command(self, **content: Any) -> Any:
        """Have the worker do something; see ``engine_worker.py``."""
        return await asyncio.to_thread(self._exchange, content)

    def _exchange(self, content: dict[str, Any] | None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if content is not None:
            self._process.stdin.write(json.dumps(content).encode() + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine's process ended with {self._process.wait()}")
        return json.loads(line)

    async def _open(self) -> None:
        given = json.dumps({"model": str(self._setup.model), "options": self._setup.options})
        command = [sys.executable, str(HERE / "engine_worker.py"), given]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.details = await asyncio.to_thread(self._exchange, None)
        await self.run([[Ask("hello", 1, {"temperature": 0.0})]])

    async def _close(self) -> None:
        await super()._close()
        if hasattr(self, "_process"):
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()


def ours(setup: Setup) -> HttpSubject:
    """Our server."""
    given = json.dumps({"model": str(setup.model), "options": setup.options})
    return HttpSubject(
        "ours",
        lambda _: [sys.executable, str(HERE / "our_server.py"), given],
        arguments=["run-core's server", *(f"{name}={value}" for name, value in setup.options.items())],
        model=our_server.MODEL,
        announced=True,
    )


def llama_server(setup: Setup, binary: Path, *, unified: bool) -> HttpSubject:
    """llama-server.

    Args:
        setup: as for all.
        binary: the program.
        unified: one KV cache for all slots, as large as for all subjects, or one for each.
    """
    arguments = ["--threads", setup.threads, "--parallel", setup.lanes, "--gpu-layers", _all(setup.gpu_layers)]
    # Split, every slot has its share of the context; it must hold the longest request.
    size = setup.cells if unified else max(setup.cells, setup.context * setup.lanes)
    arguments += ["--ctx-size", size, "--kv-unified" if unified else "--no-kv-unified", "--log-verbosity", 1]
    fixed = [str(argument) for argument in arguments]

    def command(port: int) -> list[str]:
        return [str(binary), "--model", str(setup.model), *fixed, "--host", "127.0.0.1", "--port", str(port)]

    return HttpSubject("llama-server" if unified else "llama-server-split", command, arguments=fixed)


def llama_cpp_server(setup: Setup) -> HttpSubject:
    """llama-cpp-python's server, told not to end a stream when the next request comes, and to keep no spare logits."""
    missing = [name for name in _SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"llama_cpp.server lacks {', '.join(missing)}:"
            " pip install pydantic-settings sse-starlette 'starlette-context>=0.3.6,<0.4',"
            " or --skip llama-cpp-server"
        )
    arguments = {
        "n_ctx": setup.context,
        "n_threads": setup.threads,
        "n_threads_batch": setup.threads,
        "n_gpu_layers": setup.gpu_layers,
        "flash_attn": True,
        "logits_all": False,
        "interrupt_requests": False,
        "verbose": False,
    }
    fixed = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]

    def command(port: int) -> list[str]:
        model = ["--model", str(setup.model), "--model_alias", "model"]
        return [sys.executable, "-m", "llama_cpp.server", *model, *fixed, "--host", "127.0.0.1", "--port", str(port)]

    return HttpSubject("llama-cpp-server", command, arguments=fixed)


def bare_engine(
    setup: Setup, binary: Path, *, prompt: int, generated: int, streams: Sequence[int]
) -> dict[int, dict[str, float]]:
    """What llama.cpp alone reaches (llama-batched-bench): no sampling, no text, all sequences in step.

    Its cache is one for each sequence where it holds the context for each of them, unless ours is to be one pool.

    Args:
        setup: as for all.
        binary: llama-batched-bench.
        prompt: tokens of each prompt.
        generated: tokens of each answer.
        streams: numbers of sequences.

    Returns:
        for each number of streams: generated tokens per second, with and without the time for the prompts.
    """
    most = max(streams) * (prompt + generated)
    command = [str(binary), "-m", str(setup.model), "-c", str(max(setup.cells, most)), "-b", "2048", "-ub", "512"]
    command += ["-t", str(setup.threads), "-tb", str(setup.threads), "-ngl", _all(setup.gpu_layers)]
    one_pool = setup.one_pool or setup.cells < setup.context * setup.lanes
    command += ["--kv-unified" if one_pool else "--no-kv-unified"]
    command += ["-npp", str(prompt), "-ntg", str(generated), "-npl", ",".join(map(str, streams))]
    environment = {**os.environ, "LLAMA_LOG_VERBOSITY": "1"}
    done = subprocess.run(
        [*command, "--output-format", "jsonl"], capture_output=True, text=True, check=True, env=environment
    )
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            tokens = row["pl"] * generated
            found[int(row["pl"])] = {"total": tokens / (row["t_pp"] + row["t_tg"]), "decoding": tokens / row["t_tg"]}
    return found


def _all(layers: int) -> str:
    return "all" if layers < 0 else str(layers)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
