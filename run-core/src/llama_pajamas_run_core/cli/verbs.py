"""Commands that runtimes bring: ``llama-pajamas export coreml MODEL``, ``llama-pajamas verify coreml PACKAGE``."""

from collections.abc import Callable
from importlib import import_module

import typer

from llama_pajamas_run_core.cli.brought import brought
from llama_pajamas_run_core.runtimes.discovery import discover


def _verb(verb: str, help_text: str) -> typer.Typer:
    """A command with one command below it for each installed runtime that knows the verb."""

    def places() -> dict[str, str]:
        return {info.name: info.commands[verb] for info in discover() if verb in info.commands}

    def load(name: str) -> Callable[..., None]:
        module, _, function = places()[name].partition(":")
        loaded: Callable[..., None] = getattr(import_module(module), function)
        return loaded

    group = brought(f"runtime to {verb} with", lambda: list(places()), load)
    app = typer.Typer(cls=group, no_args_is_help=True, help=help_text)

    @app.callback()
    def explain() -> None: ...  # typer makes a group only of what has a command or a callback

    return app


export = _verb("export", "Turn a model into the artifact that a runtime loads.")
verify = _verb("verify", "Check an artifact against the model that it was made from.")
