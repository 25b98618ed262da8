"""The commands, each in a file of its own."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from llama_pajamas_run_core.errors import PajamasError

#: Commands and where they are: "module:name" of a function, or of a typer app with commands of its own.
COMMANDS = {
    "serve": "serve:serve",
    "chat": "chat:chat",
    "transcribe": "transcribe:transcribe",
    "speak": "speak:speak",
    "voice": "voice:voice",
    "detect": "detect:detect",
    "classify": "classify:classify",
    "models": "models:app",
    "hardware": "hardware:hardware",
    "bench": "bench:app",
    "eval": "evaluate:app",
    "export": "verbs:export",
    "verify": "verbs:verify",
}


def build(names: Sequence[str]) -> typer.Typer:
    """The command line with some of its commands: one that runs alone needs none of the others' imports."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(root)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"llama_pajamas_run_core.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _version(on: bool) -> None:
    if on:
        typer.echo(version("llama-pajamas-run-core"))
        raise typer.Exit


def root(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Language, vision and speech models, each through the runtime that suits this machine."""


def run(arguments: Sequence[str]) -> None:
    """Run a command line; an error of ours is printed, without a traceback, and ends the process with 1."""
    wanted = [argument for argument in arguments[:1] if argument in COMMANDS]
    try:
        build(wanted or list(COMMANDS))(args=list(arguments), prog_name="llama-pajamas")
    except PajamasError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
