"""``llama-pajamas models``."""

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from llama_pajamas_run_core.artifacts.catalogue import Catalogue
from llama_pajamas_run_core.artifacts.hub import PullProgress
from llama_pajamas_run_core.artifacts.hub import pull as pull_model

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="List, pull, show and remove models.")


def size_shown(size: int) -> str:
    """A number of bytes for people, in decimal units as hubs and disks count."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


@app.command("list")
def list_models() -> None:
    """List the models there are."""
    table = Table("id", "task", "format", "size", "about")
    for entry in Catalogue().entries():
        size = sum(artifact.size for artifact in entry.artifacts)
        table.add_row(entry.id, entry.task.label, ", ".join(sorted(entry.formats)), size_shown(size), entry.description)
    Console().print(table)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="OWNER/NAME or OWNER/NAME:QUANTIZATION on the hub.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="The hub's address; HF_ENDPOINT otherwise.")] = None,
) -> None:
    """Fetch a model from the hub; a pull that was interrupted goes on where it ended."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(model, total=None)

        def show(progress: PullProgress) -> None:
            bars.update(bar, description=progress.file, completed=progress.done, total=progress.total)

        manifest = pull_model(model, revision=revision, endpoint=endpoint, progress=show)
    typer.echo(f"{manifest.id}: {manifest.format}, {size_shown(manifest.size)}, checksums verified")


@app.command()
def show(model: Annotated[str, typer.Argument(help="The model's id.")]) -> None:
    """Show what is known of a model."""
    catalogue = Catalogue()
    entry = catalogue.get(model)
    typer.echo(f"id       {entry.id}")
    typer.echo(f"task     {entry.task.label}")
    typer.echo(f"about    {entry.description}")
    if entry.aliases:
        typer.echo(f"aliases  {', '.join(entry.aliases)}")
    for artifact in entry.artifacts:
        typer.echo(f"format   {artifact.format}, {size_shown(artifact.size)}")
    for manifest in catalogue.store.manifests():
        if manifest.id == entry.id:
            typer.echo(f"source   {manifest.source} at {manifest.revision}")
            for file in manifest.files:
                typer.echo(f"file     {file.path}  {size_shown(file.size)}  sha256 {file.sha256}")


@app.command()
def remove(model: Annotated[str, typer.Argument(help="The id of a pulled model.")]) -> None:
    """Delete a pulled model."""
    manifest = Catalogue().store.remove(model)
    typer.echo(f"{manifest.id} removed, {size_shown(manifest.size)} freed")
