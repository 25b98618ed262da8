"""What is to be mapped to a vector, as tokens."""

from llama_pajamas_run_core.errors import BadInput, ContextTooLong
from llama_pajamas_run_core.language.tokens import Tokenizer


def tokens_to_embed(source: str | tuple[int, ...], index: int, *, tokenizer: Tokenizer, limit: int) -> list[int]:
    """The tokens of a text, or of token ids themselves. May be called from any thread.

    Args:
        source: the text, or the tokens.
        index: which input of the request it is, for messages.
        tokenizer: of the model.
        limit: the most tokens that it reads.

    Raises:
        BadInput: a token id does not exist, or there is none.
        ContextTooLong: there are more than fit.
    """
    if isinstance(source, str):
        tokens = tokenizer.encode(source)
    else:
        tokens = list(source)
        tokenizer.check(tokens)
    if not tokens:
        raise BadInput("An input to embed is empty.", param=f"input[{index}]")
    if len(tokens) > limit:
        raise ContextTooLong(tokens=len(tokens), limit=limit, param=f"input[{index}]")
    return tokens
