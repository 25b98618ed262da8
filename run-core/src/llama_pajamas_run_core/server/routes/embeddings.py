"""``POST /v1/embeddings``."""

from functools import partial

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from starlette.responses import Response

from llama_pajamas_run_core.artifacts.catalogue import ModelEntry
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.server.feed import while_connected
from llama_pajamas_run_core.server.schemas.embeddings import EmbeddingRequest, cut, reply
from llama_pajamas_run_core.server.services import Served, Services
from llama_pajamas_run_core.server.wire import dump
from llama_pajamas_run_core.types.chat import Usage
from llama_pajamas_run_core.types.tasks import Task

router = APIRouter(prefix="/v1", tags=["embeddings"])


@router.post("/embeddings")
async def embeddings(body: EmbeddingRequest, request: Request, services: Served) -> Response:
    """Map texts to vectors: by a language model, or by the text encoder of a vision model."""
    entry = services.model(body.model)
    work = _embed(services, entry, body.to_core())
    vectors, tokens = await while_connected(request, work, services.metrics.disconnect)
    services.metrics.tokens(Usage(tokens, 0))

    def render() -> bytes:
        shorter = cut(vectors, body.dimensions)
        return dump(reply(shorter, model=entry.id, encoding=body.encoding_format, tokens=tokens))

    # Thousands of vectors as numbers are megabytes of text.
    return Response(await services.workers.decode(render), media_type="application/json")


async def _embed(
    services: Services, entry: ModelEntry, inputs: list[str | tuple[int, ...]]
) -> tuple[npt.NDArray[np.float32], int]:
    if entry.task is Task.VISION:
        texts = [text for text in inputs if isinstance(text, str)]
        if len(texts) < len(inputs):
            raise BadInput("This model takes text, not token ids.", param="input")
        async with services.lease(entry, Task.VISION) as vision:
            return await services.workers.call(partial(vision.embed_text, texts)), 0
    async with services.lease(entry, Task.LLM) as llm:
        return await services.workers.call(partial(llm.embed, inputs))
