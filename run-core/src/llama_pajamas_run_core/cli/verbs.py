"""Commands that runtimes bring: ``llama-pajamas export coreml MODEL``, ``llama-pajamas verify coreml PACKAGE``."""

from importlib import import_module

import typer

from llama_pajamas_run_core.runtimes.discovery import discover


def _verb(verb: str, help_text: str) -> typer.Typer:
    """A command with one command below it for each installed runtime that knows the verb."""
    app = typer.Typer(no_args_is_help=True, help=help_text)

    # A typer app with a single command would swallow that command's name; a callback keeps it.
    @app.callback()
    def explain() -> None: ...

    for info in discover():
        if where := info.commands.get(verb):
            module, _, function = where.partition(":")
            app.command(info.name)(getattr(import_module(module), function))
    return app


export = _verb("export", "Turn a model into the artifact that a runtime loads.")
verify = _verb("verify", "Check an artifact against the model that it was made from.")
