"""``POST /v1/chat/completions``."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.feed import while_connected
from llama_pajamas_run_core.server.generate import complete, deltas
from llama_pajamas_run_core.server.media import read_audio, read_image
from llama_pajamas_run_core.server.schemas.chat import ChatRequest
from llama_pajamas_run_core.server.schemas.chat_reply import ChatReply
from llama_pajamas_run_core.server.services import Served, Services
from llama_pajamas_run_core.server.sse import respond_with_events
from llama_pajamas_run_core.server.wire import Json
from llama_pajamas_run_core.types.audio import Audio
from llama_pajamas_run_core.types.chat import GenerationRequest
from llama_pajamas_run_core.types.vision import Image

router = APIRouter(prefix="/v1", tags=["chat"])


@router.post("/chat/completions")
async def chat_completions(body: ChatRequest, request: Request, services: Served) -> Response:
    """Continue a conversation."""
    entry = services.model(body.model)
    requests = body.copies(await _to_core(body, services))
    reply = ChatReply(entry.id, include_usage=body.include_usage)
    if body.stream:
        events = deltas(services, entry, requests, reply, include_usage=body.include_usage)
        return await respond_with_events(request, services, events, empty=reply.empty())
    completions = await while_connected(request, complete(services, entry, requests), services.metrics.disconnect)
    whole = reply.whole(completions)
    services.metrics.tokens(reply.usage)
    return Json(whole)


async def _to_core(body: ChatRequest, services: Services) -> GenerationRequest:
    settings = services.settings

    def image(source: str, param: str) -> Image:
        return read_image(source, settings, param=param)

    def audio(source: str, param: str) -> Audio:
        return read_audio(source, settings, param=param)

    count, most = body.media(), settings.limits.media
    if count > most:
        raise BadInput(f"A request may have at most {most} pictures and sounds, not {count}.", param="messages")
    if not count:
        return body.to_core(image, audio)
    return await services.workers.decode(lambda: body.to_core(image, audio))
