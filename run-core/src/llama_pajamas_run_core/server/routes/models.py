"""``/v1/models``."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.errors import BadInput, PajamasError
from llama_pajamas_run_core.pool.status import ModelStatus
from llama_pajamas_run_core.server.errors import Forbidden
from llama_pajamas_run_core.server.schemas import models as wire
from llama_pajamas_run_core.server.services import Served, Services
from llama_pajamas_run_core.server.settings import is_loopback
from llama_pajamas_run_core.server.wire import Json

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(services: Served) -> Response:
    """All models. Waits for no model."""
    return Json(await services.workers.look(lambda: {"object": "list", "data": _all(services)}))


@router.get("/{model:path}")
async def get_model(model: str, services: Served) -> Response:
    """One model."""
    entry = services.model(model)
    return Json(await services.workers.look(lambda: _one(services, entry, _states(services))))


@router.delete("/{model:path}")
async def delete_model(model: str, request: Request, services: Served) -> Response:
    """Delete a model that was pulled. Only with an API key, or from this machine."""
    client = request.client.host if request.client is not None else ""
    if not services.settings.api_keys and not is_loopback(client):
        raise Forbidden("Models are deleted with an API key, or from the machine itself.")
    entry = services.model(model)
    store = services.catalogue.store
    if entry.id not in {manifest.id for manifest in store.manifests()}:
        raise BadInput(f"The model '{entry.id}' was not pulled; it belongs to an installed package.", param="model")
    await services.pool.unload(entry.id)
    await services.workers.look(lambda: store.remove(entry.id))
    return Json({"id": entry.id, "object": "model", "deleted": True})


def _states(services: Services) -> dict[str, ModelStatus]:
    return {status.id: status for status in services.pool.status()}


def _all(services: Services) -> list[dict[str, object]]:
    states = _states(services)
    return [_one(services, entry, states) for entry in services.catalogue.entries()]


def _one(services: Services, entry: ModelEntry, states: dict[str, ModelStatus]) -> dict[str, object]:
    status = states.get(entry.id)
    if status is not None:
        return wire.model(entry, status, status.runtime, None)
    try:
        return wire.model(entry, None, services.pool.plan(entry).runtime, None)
    except PajamasError as error:
        return wire.model(entry, None, None, str(error))
