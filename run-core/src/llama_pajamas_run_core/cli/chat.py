"""``llama-pajamas chat``."""

import sys
from typing import Annotated

import typer

from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.chat import Message
from llama_pajamas_run_core.types.tasks import Task


def chat(
    message: Annotated[str | None, typer.Argument(help="What to say; without it, a conversation begins.")] = None,
    model: Annotated[str | None, typer.Option(help="Model id, or path of a model file.")] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 (greedy) to 2.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of an answer.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Prefer this runtime.")] = None,
) -> None:
    """Talk to a language model. A conversation ends with an empty line or Ctrl-D."""
    history = [Message("system", system)] if system else []
    with Machine().open(Task.LLM, model, runtime=runtime) as llm:
        while True:
            said = message if message is not None else _ask()
            if not said:
                return
            history.append(Message("user", said))
            parts: list[str] = []
            for delta in llm.stream(history, temperature=temperature, max_tokens=max_tokens):
                parts.append(delta.text)
                sys.stdout.write(delta.text)
                sys.stdout.flush()
            sys.stdout.write("\n")
            history.append(Message("assistant", "".join(parts)))
            if message is not None:
                return


def _ask() -> str:
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""
