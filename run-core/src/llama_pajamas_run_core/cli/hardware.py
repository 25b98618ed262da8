"""``llama-pajamas hardware``."""

from typing import Annotated

import typer
from rich.console import Console, Group
from rich.table import Table

from llama_pajamas_run_core.cli.watch import show
from llama_pajamas_run_core.hardware.profiles import to_json
from llama_pajamas_run_core.hardware.topology import describe
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.selection.matrix import hardware_class
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task


def hardware(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; while watching, a line a reading.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show what the hardware does, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between readings while watching.")] = 1.0,
    count: Annotated[int, typer.Option(help="Stop watching after so many readings; 0 goes on.")] = 0,
) -> None:
    """Show this machine, and for each task the runtime chosen, with the reason for every one that was considered."""
    if watch:
        show(interval=interval, count=count, as_json=as_json)
        return
    machine = Machine()
    if as_json:
        typer.echo(to_json(machine.profile))
        return
    Console().print(overview(machine))


def overview(machine: Machine) -> Group:
    """The machine and its selection matrix, ready to be printed."""
    return Group(profile_table(machine.profile), matrix_table(machine))


def profile_table(profile: HardwareProfile) -> Table:
    """What the hardware is, one fact a line."""
    table = Table("hardware", hardware_class(profile).title, show_edge=False, box=None, pad_edge=False)
    cpu = profile.processor
    table.add_row("system", f"{profile.system} {profile.release}".strip())
    table.add_row("processor", f"{cpu.name}, {cpu.cores} cores, {cpu.threads} threads ({cpu.architecture})")
    table.add_row("instructions", " ".join(sorted(cpu.features)) or "unknown")
    table.add_row("memory", f"{cpu.memory / 2**30:.1f} GiB, {cpu.memory_free / 2**30:.1f} GiB free")
    for gpu in profile.nvidia:
        major, minor = gpu.compute_capability
        free = f"{gpu.memory_free / 2**30:.1f} of {gpu.memory / 2**30:.1f} GiB free"
        table.add_row(
            f"GPU {gpu.index}", f"{gpu.name}, compute capability {major}.{minor}, {free}, driver {gpu.driver}"
        )
    for link in profile.links:
        table.add_row(f"GPU {link.first} to {link.second}", describe(link))
    if profile.apple is not None:
        table.add_row("chip", f"{profile.apple.name}, {profile.apple.memory / 2**30:.0f} GiB unified memory")
    for what, reason in profile.notes.items():
        absent = (what == "nvidia" and not profile.nvidia) or what == "apple"
        table.add_row(f"no {what}" if absent else what, reason)
    return table


def matrix_table(machine: Machine) -> Table:
    """For each task every runtime considered: the one chosen first, each with its reason."""
    table = Table("task", "runtime", "", "reason", title="Selection matrix", title_justify="left")
    for task in Task:
        for index, candidate in enumerate(machine.selection(task).candidates):
            mark = "chosen" if candidate.taken else "usable" if candidate.usable else "-"
            table.add_row("" if index else task.label, candidate.title, mark, candidate.reason)
        table.add_section()
    return table
