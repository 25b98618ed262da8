"""``llama-pajamas serve``."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from llama_pajamas_run_core.errors import BadInput
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
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Answer to this name alone; on loopback, to its own names otherwise.")
    ] = None,
    fetch_media: Annotated[
        bool, typer.Option("--fetch-media", help="Fetch pictures and sounds from public URLs in requests.")
    ] = False,
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
    memory: Annotated[
        float | None, typer.Option(help="GiB of the host's memory for all models; otherwise 80 % of what is free.")
    ] = None,
    keep_alive: Annotated[float, typer.Option(help="Unload a model after so many idle seconds; -1 keeps it.")] = 300.0,
    max_temperature: Annotated[float, typer.Option(help="Warn of a GPU from so many degrees Celsius on.")] = 85.0,
    max_memory: Annotated[float, typer.Option(help="Warn, and load no more, past this share of the memory.")] = 0.9,
) -> None:
    """Serve models through an OpenAI-compatible API."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if memory is not None and not memory > 0:
        raise BadInput("The memory for models is a number of GiB above 0.", param="memory")
    machine = Machine()
    for path in models or []:
        entry = machine.catalogue.add_path(path)
        typer.echo(f"{path} is served as {entry.id}")
    for name in preload or []:
        machine.catalogue.get(name)  # a server that waits for a model that does not exist would never be ready
    keys = [*(api_key or []), *filter(None, map(str.strip, os.environ.get(KEYS, "").split(",")))]
    settings = Settings(
        host=host,
        port=port,
        api_keys=tuple(keys),
        insecure=insecure,
        cors_origins=tuple(cors or ()),
        allowed_hosts=tuple(allow_host) if allow_host else None,
        fetch_media=fetch_media,
        preload=tuple(preload or ()),
        thresholds=Thresholds(temperature=max_temperature, memory=max_memory),
    )
    pool = machine.pool(
        runtime=runtime,
        memory_budget=None if memory is None else int(memory * 2**30),
        keep_alive=keep_alive if keep_alive >= 0 else None,
    )
    run_server(pool, settings, ready=lambda url: typer.echo(f"listening on {url}"))
