"""Groups of commands that other packages bring: only the one that is asked for is imported."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from llama_pajamas_run_core.errors import BadInput, PajamasError, Unsupported

_log = logging.getLogger(__name__)


def brought(what: str, names: Callable[[], Sequence[str]], load: Callable[[str], Callable[..., None]]) -> type[Any]:
    """A class of command groups. A command that cannot be imported is listed with the reason, and fails with it.

    Args:
        what: what the commands are, for people ("evaluation").
        names: what there is, in the order of the list.
        load: gives the function behind a name; may raise anything.
    """

    class Brought(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(names())

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            known = names()
            if cmd_name not in known:
                raise BadInput(f"There is no {what} '{cmd_name}'.", hint=f"There are: {', '.join(known) or 'none'}.")
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            try:
                single.command(cmd_name)(load(cmd_name))
                return typer.main.get_command(single)
            except Exception as error:
                _log.debug("%s=%s could not be loaded", what, cmd_name, exc_info=error)
                return _broken(cmd_name, error)

    return Brought


def _broken(name: str, error: Exception) -> Any:
    """A command that says why it cannot be used, whatever it is given."""
    reason = error if isinstance(error, PajamasError) else Unsupported(f"'{name}' cannot be used here: {error}.")

    def run() -> None:
        raise reason

    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    single.command(name, help=str(reason), short_help=str(reason), context_settings=anything)(run)
    return typer.main.get_command(single)
