"""``llama-pajamas serve``."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_core.hardware.thresholds import Thresholds
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.server.run import serve as run_server
from llama_pajamas_run_core.server.settings import Settings

#: Where API keys are read from, separated by commas, so that they need not stand in a process list.
KEYS = "LLAMA_PAJAMAS_API_KEYS"


def serve(
    models: Annotated[list[Path] | None, typer.Argument(help="Model files or folders to serve besides.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
    preload: Annotated[list[str] | None, typer.Option(help="Load this model before the server is ready.")] = None,
    api_key: Annotated[list[str] | None, typer.Option(help=f"Ask for this key; better set {KEYS}.")] = None,
    insecure: Annotated[bool, typer.Option(help="Listen beyond this machine without a key.")] = False,
    cors: Annotated[list[str] | None, typer.Option(help="Let pages of this origin call the server.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
    keep_alive: Annotated[float, typer.Option(help="Unload a model after so many idle seconds.")] = 300.0,
    max_temperature: Annotated[float, typer.Option(help="Warn of a GPU from so many degrees Celsius on.")] = 85.0,
    max_memory: Annotated[float, typer.Option(help="Warn, and load no more, past this share of the memory.")] = 0.9,
) -> None:
    """Serve models through an OpenAI-compatible API."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    machine = Machine()
    for path in models or []:
        entry = machine.catalogue.add_path(path)
        typer.echo(f"{path} is served as {entry.id}")
    keys = [*(api_key or []), *filter(None, os.environ.get(KEYS, "").split(","))]
    settings = Settings(
        host=host,
        port=port,
        api_keys=tuple(keys),
        insecure=insecure,
        cors_origins=tuple(cors or ()),
        preload=tuple(preload or ()),
        thresholds=Thresholds(temperature=max_temperature, memory=max_memory),
    )
    pool = machine.pool(runtime=runtime, keep_alive=keep_alive)
    run_server(pool, settings, ready=lambda url: typer.echo(f"listening on {url}"))
