"""One runtime alone, as on an edge device: a GGUF model, a streamed answer, its timing.

    uv run python examples/edge_single_runtime.py [model.gguf] [--prompt TEXT]

Needs llama-pajamas-run-gguf and nothing else of the project; without a path the starter chat model, if that package is
installed.
"""

import argparse
import sys
import time
from pathlib import Path

from llama_pajamas_run_core.errors import PajamasError
from llama_pajamas_run_gguf import GGUFLLMBackend


def starter_model() -> Path:
    """The starter chat model as a GGUF file."""
    try:
        from llama_pajamas_starter.catalogue import entries
    except ModuleNotFoundError:
        sys.exit("Give the path of a GGUF model, or install llama-pajamas-starter.")
    for entry in entries():
        for artifact in entry.artifacts:
            if artifact.format == "gguf":
                return artifact.materialize()
    sys.exit("This installation has no starter chat model; give the path of a GGUF model.")


def main() -> None:
    """Stream one answer."""
    parser = argparse.ArgumentParser(description="Stream an answer from a GGUF model.")
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF file")
    parser.add_argument("--prompt", default="What is twenty-three plus nineteen?")
    parser.add_argument("--max-tokens", type=int, default=200)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with GGUFLLMBackend(arguments.model or starter_model(), n_ctx=1024) as llm:
        loaded = time.perf_counter()
        first = None
        for delta in llm.stream(arguments.prompt, max_tokens=arguments.max_tokens, temperature=0.0):
            if delta.text and first is None:
                first = time.perf_counter()
            print(delta.text, end="", flush=True)
        ended = time.perf_counter()
        print()
    usage = delta.usage
    if usage is None or first is None:
        sys.exit("The model said nothing.")
    seconds = ended - loaded
    print(
        f"loaded in {(loaded - started) * 1e3:.0f} ms, {usage.prompt_tokens} prompt tokens, "
        f"first text after {(first - loaded) * 1e3:.1f} ms, "
        f"{usage.completion_tokens} tokens after {seconds * 1e3:.1f} ms ({usage.completion_tokens / seconds:.0f}/s)"
    )


if __name__ == "__main__":
    try:
        main()
    except PajamasError as error:
        sys.exit(f"error: {error}")
