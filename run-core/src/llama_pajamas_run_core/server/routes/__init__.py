"""The endpoints, one file for each family: read the wire type, convert, lease a model, convert back."""

from llama_pajamas_run_core.server.routes import audio, chat, completions, embeddings, health, images, models

ROUTERS = (
    health.router,
    models.router,
    chat.router,
    completions.router,
    embeddings.router,
    audio.router,
    images.router,
)

__all__ = ["ROUTERS"]
