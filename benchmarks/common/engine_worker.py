"""The engine without a server, as a process of its own: reads commands from standard input, answers on standard output.

    python benchmarks/common/engine_worker.py '{"model": "model.gguf", "options": {"n_ctx": 8192, "n_lanes": 16}}'

One JSON object a line. {"streams": [[ask, ...], ...]} runs a load and answers with a list of answers.
{"greedy": [ask, ...], "together": bool} answers with the tokens of each, as hexadecimal bytes, and the lead of each
token over the runner-up in nats. {"reference": [ask, ...]} answers with the tokens that llama_cpp.Llama generates.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.load import Answer, Ask, now, run_streams
from llama_pajamas_run_core.types.chat import Completion, GenerationOptions, GenerationRequest
from llama_pajamas_run_gguf.llm import GGUFLLMBackend


def request(ask: Ask, **more: Any) -> GenerationRequest:
    """The core's request."""
    bias = {int(token): value for token, value in ask.sampling.get("logit_bias", {}).items()}
    options = {**ask.sampling, "logit_bias": bias, **more}
    return GenerationRequest(ask.prompt, GenerationOptions(max_tokens=ask.max_tokens, **options))


async def ask_engine(backend: GGUFLLMBackend, ask: Ask) -> Answer:
    """Generate one answer, noting when its tokens arrive."""
    answer = Answer(now())
    try:
        async for delta in backend.submit(request(ask)):
            if delta.text:
                answer.times.append(now())
            if delta.usage is not None:
                answer.tokens = delta.usage.completion_tokens
                answer.prompt_tokens = delta.usage.prompt_tokens
                answer.cached_tokens = delta.usage.cached_tokens
    except Exception as error:
        answer.error = f"{type(error).__name__}: {error}"
    answer.ended = now()
    return answer


def greedy(backend: GGUFLLMBackend, asks: list[Ask], *, together: bool) -> list[dict[str, Any]]:
    """The likeliest tokens after each prompt.

    Args:
        backend: the engine.
        asks: the requests.
        together: all at once, or one after the other.
    """
    if together:
        generations = [backend.submit(request(ask, logprobs=2)) for ask in asks]
        return [_told(generation.result()) for generation in generations]
    return [_told(backend.submit(request(ask, logprobs=2)).result()) for ask in asks]


def _told(completion: Completion) -> dict[str, Any]:
    leads = [token.top[0].logprob - token.top[1].logprob for token in completion.logprobs]
    return {"tokens": [token.token_bytes.hex() for token in completion.logprobs], "leads": leads}


def reference(path: str, options: dict[str, Any], asks: list[Ask]) -> list[dict[str, Any]]:
    """The same from llama-cpp-python's own class, with the same attention kernels."""
    import llama_cpp

    threads = options["n_threads"]
    llama = llama_cpp.Llama(
        path,
        n_ctx=options["n_ctx"],
        n_threads=threads,
        n_threads_batch=threads,
        n_gpu_layers=options["n_gpu_layers"],
        flash_attn=options.get("flash_attention") is not False,
        verbose=False,
    )
    answers = []
    for ask in asks:
        tokens: list[str] = []
        for token in llama.generate(llama.tokenize(ask.prompt.encode(), special=True), temp=0.0, repeat_penalty=1.0):
            if len(tokens) >= ask.max_tokens or llama_cpp.llama_vocab_is_eog(llama._model.vocab, token):
                break
            piece = llama._model.token_to_piece(token, special=False)  # its buffer, with the zeros behind
            tokens.append(piece.rstrip(b"\0").hex())
        answers.append({"tokens": tokens})
        llama.reset()
    llama.close()
    return answers


async def main() -> None:
    """Obey until standard input ends."""
    given = json.loads(sys.argv[1])
    with GGUFLLMBackend(given["model"], **given["options"]) as backend:
        print(json.dumps(dict(backend.details)), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            if "streams" in command:
                streams = [[Ask(**ask) for ask in stream] for stream in command["streams"]]
                answers = await run_streams(streams, lambda ask: ask_engine(backend, ask))
                told: Any = [answer.plain() for answer in answers]
            elif "greedy" in command:
                told = greedy(backend, [Ask(**ask) for ask in command["greedy"]], together=command["together"])
            else:
                asks = [Ask(**ask) for ask in command["reference"]]
                told = await asyncio.to_thread(reference, given["model"], given["options"], asks)
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
