"""What the outside sees of a loaded model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_pajamas_run_core.types.tasks import Task


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model that the pool holds, or tries to.

    Attributes:
        id: the model's id in the catalogue.
        task: what it does.
        state: "unloaded", "loading", "loaded", "unloading" or "failed".
        runtime: the runtime that runs it.
        users: leases held now.
        waiting: requests in its queue.
        memory: bytes reserved for it.
        idle: seconds since its last use; 0 while it is used.
        options: its load options, where they differ from the planner's.
        details: what the backend says about itself (device, precision, ...).
        error: why it could not be loaded, where the last try failed.
        gpu: the UUID of the GPU that it is on, as far as is known.
    """

    id: str
    task: Task
    state: str
    runtime: str
    users: int = 0
    waiting: int = 0
    memory: int = 0
    idle: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    gpu: str | None = None
