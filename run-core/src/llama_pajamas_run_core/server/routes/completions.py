"""``POST /v1/completions``."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from llama_pajamas_run_core.server.feed import while_connected
from llama_pajamas_run_core.server.generate import complete, deltas
from llama_pajamas_run_core.server.schemas.completions import CompletionReply, CompletionRequest
from llama_pajamas_run_core.server.services import Served
from llama_pajamas_run_core.server.sse import respond_with_events
from llama_pajamas_run_core.server.wire import Json

router = APIRouter(prefix="/v1", tags=["chat"])


@router.post("/completions")
async def completions(body: CompletionRequest, request: Request, services: Served) -> Response:
    """Continue raw text."""
    entry = services.model(body.model)
    requests = body.to_core()
    reply = CompletionReply(entry.id, body)
    if body.stream:
        events = deltas(services, entry, requests, reply, include_usage=body.include_usage)
        return await respond_with_events(request, services, events, empty=reply.empty())
    answers = await while_connected(request, complete(services, entry, requests), services.metrics.disconnect)
    whole = reply.whole(answers)
    services.metrics.tokens(reply.usage)
    return Json(whole)
