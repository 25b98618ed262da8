"""The commands, each in a file of its own and imported only when it runs."""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from llama_pajamas_run_core.errors import PajamasError

#: command -> (module, what it does). The module has a typer app named ``app``.
COMMANDS = {
    "serve": ("serve", "Serve models through an OpenAI-compatible API."),
    "chat": ("chat", "Talk to a language model."),
    "transcribe": ("transcribe", "Turn speech into text."),
    "speak": ("speak", "Turn text into speech."),
    "voice": ("voice", "Answer a spoken question aloud."),
    "detect": ("detect", "Find objects in images."),
    "classify": ("classify", "Name what images show."),
    "models": ("models", "List, pull, show and remove models."),
    "hardware": ("hardware", "Show this machine and the runtimes chosen for it."),
    "eval": ("evaluate", "Measure models on held-out data."),
}


class _LazyCommands(TyperGroup):
    """Imports a command's module when it is called: ``--help`` must not load the server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"llama_pajamas_run_core.cli.{COMMANDS[cmd_name][0]}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PajamasError as error:
            typer.echo(f"error: {error}", err=True)
            sys.exit(1)
        except BrokenPipeError:
            sys.exit(0)


app = typer.Typer(cls=_LazyCommands, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Language, vision and speech models, each through the runtime that suits this machine."""
    if show_version:
        typer.echo(version("llama-pajamas-run-core"))
        raise typer.Exit
