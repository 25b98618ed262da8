"""One OpenAI-compatible server for language, vision, speech-to-text and text-to-speech, on what this machine has.

    uv run python examples/unified_server_demo.py [MODEL ...] [--port 8000]
    uv run python examples/unified_server_demo.py --check

Without models it serves the starter models, offline. ``--check`` calls every endpoint with the official client and
plain HTTP, prints what came back, and fails if an answer is wrong.
"""

import argparse
import json
import sys
import threading
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.cli.hardware import overview
from llama_pajamas_run_core.errors import PajamasError
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.server.run import Server
from llama_pajamas_run_core.server.settings import Settings

#: Each endpoint with what to send it: a JSON body, a form, or nothing.
REQUESTS = (
    ("/v1/models", ""),
    ("/v1/chat/completions", {"model": "starter-chat", "messages": [{"role": "user", "content": "Hello!"}]}),
    ("/v1/completions", {"model": "starter-chat", "prompt": "Hello!", "max_tokens": 40}),
    ("/v1/embeddings", {"model": "starter-embed", "input": "a red car"}),
    ("/v1/audio/speech", {"model": "system-voice", "input": "What is two plus two?", "voice": "alloy"}),
    ("/v1/audio/transcriptions", "-F model=starter-speech -F file=@speech.mp3"),
    ("/v1/audio/translations", "-F model=starter-speech -F file=@speech.mp3"),
    ("/v1/images/detect", "-F model=starter-detect -F file=@examples/scene.png"),
    ("/v1/images/classify", "-F model=starter-classify -F file=@examples/star.png"),
    ("/v1/images/embed", "-F model=starter-embed -F file=@examples/star.png"),
    ("/health", ""),
    ("/ready", ""),
)


def curls(url: str) -> str:
    """One curl line for each endpoint."""
    lines = []
    for path, body in REQUESTS:
        if isinstance(body, dict):
            body = f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
        saved = " -o speech.mp3" if path.endswith("/speech") else ""
        lines.append(f"curl {url}{path} {body}".rstrip() + saved)
    return "\n".join(lines)


def main() -> int:
    """Serve, or check."""
    parser = argparse.ArgumentParser(description="Serve language, vision and speech models through one API.")
    parser.add_argument("models", nargs="*", help="ids or paths of models; the starter models if none")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--check", action="store_true", help="call every endpoint, compare the answers, and stop")
    arguments = parser.parse_args()
    machine = Machine()
    console = Console()
    console.print(overview(machine))
    entries = [named(machine, model) for model in arguments.models] or shipped(machine)
    console.print(choices(machine, entries))
    preload = tuple(entry.id for entry in entries)
    if arguments.check:
        return check(machine, console, preload)
    settings = Settings(host=arguments.host, port=arguments.port, preload=preload)
    Server(machine.pool(keep_alive=None), settings).run(
        ready=lambda url: print(f"\nServing on {url}\n\n{curls(url)}\n")
    )
    return 0


def named(machine: Machine, model: str) -> ModelEntry:
    """A model given by id or by path."""
    return machine.catalogue.add_path(model) if Path(model).exists() else machine.catalogue.get(model)


def shipped(machine: Machine) -> list[ModelEntry]:
    """The models that installed packages bring; those that were pulled are loaded when they are asked for."""
    pulled = {manifest.id for manifest in machine.catalogue.store.manifests()}
    return [entry for entry in machine.catalogue.entries() if entry.id not in pulled]


def choices(machine: Machine, entries: list[ModelEntry]) -> Table:
    """The runtime chosen for each model, with the reason."""
    table = Table("model", "task", "runtime", "reason", title="Models", title_justify="left")
    for entry in entries:
        chosen = machine.selection(entry.task, entry).require()
        table.add_row(entry.id, entry.task.label, chosen.title, chosen.reason)
    return table


def check(machine: Machine, console: Console, preload: tuple[str, ...]) -> int:
    """Serve on a free port, ask everything, print the answers; 1 if one of them is wrong, else 0."""
    try:
        from starter_checks import Checks
    except ModuleNotFoundError as error:
        sys.exit(f"--check needs the package {error.name}: uv sync")
    started = threading.Event()
    server = Server(machine.pool(keep_alive=None), Settings(port=0, preload=preload))
    serving = threading.Thread(target=server.run, kwargs={"ready": lambda _: started.set()}, daemon=True)
    serving.start()
    if not started.wait(60):
        sys.exit("The server did not start within a minute.")
    results = Checks(server.url).run()
    server.stop()
    serving.join(15)
    table = Table("request", "answer", "ms", "", title="Checks", title_justify="left")
    for result in results:
        table.add_row(result.request, result.answer, f"{result.seconds * 1000:.0f}", result.verdict)
    console.print(table)
    wrong = sum(not result.right for result in results)
    console.print(f"{len(results) - wrong} of {len(results)} answers are right.")
    return min(wrong, 1)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PajamasError as error:
        sys.exit(f"error: {error}")
