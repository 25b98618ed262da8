"""``/v1/models``: the models there are, with what OpenAI's clients read and what people want to know."""

from typing import Any

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.pool.status import ModelStatus


def model(entry: ModelEntry, status: ModelStatus | None, runtime: str | None, trouble: str | None) -> dict[str, Any]:
    """One model.

    Args:
        entry: the model.
        status: its state in the pool, where the pool knows it.
        runtime: the runtime that runs it, or would.
        trouble: why none can.
    """
    details = dict(status.details) if status is not None else {}
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": entry.owned_by,
        "task": entry.task.value,
        "description": entry.description,
        "aliases": list(entry.aliases),
        "default": entry.default,
        "abilities": sorted(entry.abilities),
        "formats": sorted(entry.formats),
        "runtime": runtime,
        "state": "unavailable" if trouble and status is None else status.state if status is not None else "unloaded",
        "loaded": status is not None and status.state == "loaded",
        "device": details.get("device"),
        "memory": status.memory if status is not None else 0,
        "details": details,
        "error": status.error if status is not None and status.error else trouble,
    }
