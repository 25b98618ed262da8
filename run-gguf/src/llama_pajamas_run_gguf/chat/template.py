"""The chat template of a loaded model."""

import llama_cpp

from llama_pajamas_run_core.language.templates.template import ChatTemplate
from llama_pajamas_run_gguf._session import Session
from llama_pajamas_run_gguf.tokenizer import Tokenizer


def template_of(session: Session, tokenizer: Tokenizer, source: str | None = None) -> ChatTemplate | None:
    """The template of a model, or None where it has none.

    Args:
        session: the loaded model.
        tokenizer: of the model.
        source: a template instead of the model's own, or None.

    Raises:
        LoadError: the template is not valid.
    """
    if source is None:
        found = llama_cpp.llama_model_chat_template(session.model, None)
        if not found:
            return None
        source = found.decode("utf-8", "replace")

    def text(token: int) -> str:
        return tokenizer.text([token]) if token >= 0 else ""

    return ChatTemplate(
        source,
        origin=session.path.name,
        tokens={"bos_token": text(tokenizer.bos), "eos_token": text(tokenizer.eos)},
    )
