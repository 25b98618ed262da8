"""The chat model's greedy tokens in every runtime, beside the recorded ones of the PyTorch reference."""

import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llama_pajamas_run_core.backends.generation import Generation
from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.errors import LoadError, MissingDependency, PajamasError
from llama_pajamas_run_core.evaluation import Row
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_starter.chat import checkpoint
from llama_pajamas_starter.fidelity.reference import Answer, Reference
from llama_pajamas_starter.fidelity.subjects import Subject, installed, reason

MODEL: Final = "starter-chat"
WHAT: Final = "greedy answers equal to PyTorch's"
#: The least share of equal answers of a runtime that computes in 16 or 32 bits: only ties may fall otherwise.
FLOOR: Final = 0.99
#: Requests at once; the runtimes that batch work on eight of them.
_AT_ONCE: Final = 16
_LANES: Final = 8
#: The starter model is 160 wide, which larger groups do not divide.
_GROUP: Final = 32


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an answer leaves the reference's.

    Attributes:
        position: of the first token that differs, from 0.
        margin: by how much the reference's logit of its own token leads the runner-up there.
    """

    position: int
    margin: float


def rows(machine: Machine, prompts: int) -> Iterator[Row]:
    """A row for each runtime and precision.

    Raises:
        LoadError: the record of the reference is missing, or of other weights.
    """
    reference = Reference.load()
    reference.check(checkpoint() / "model.safetensors")
    answers, pieces = reference.answers[:prompts], token_bytes(checkpoint())
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(machine):
            yield _row(subject, Path(folder), answers, reference, pieces)


def subjects(machine: Machine) -> list[Subject[LLMBackend]]:
    """The runtimes and precisions."""

    def gguf(precision: str, *, exact: bool) -> Subject[LLMBackend]:
        opener = installed(machine, Task.LLM, "gguf", _gguf(precision))
        return Subject(f"llama.cpp, {precision.upper()}", opener, exact)

    def mlx(name: str, open: Callable[[Path], LLMBackend], *, exact: bool) -> Subject[LLMBackend]:
        return Subject(f"MLX, {name}", installed(machine, Task.LLM, "mlx", open), exact)

    return [
        gguf("f16", exact=True),
        mlx("FP32", _mlx("float32"), exact=True),
        mlx("FP16", _mlx("float16"), exact=True),
        gguf("q8_0", exact=False),
        gguf("q4_k_m", exact=False),
        mlx("8 bits", _mlx_quantized(8), exact=False),
        mlx("4 bits", _mlx_quantized(4), exact=False),
    ]


def _gguf(precision: str) -> Callable[[Path], LLMBackend]:
    def open(folder: Path) -> LLMBackend:
        from llama_pajamas_run_gguf.llm import GGUFLLMBackend
        from llama_pajamas_starter.chat.to_gguf import convert

        file = convert(checkpoint(), folder / "chat-f16.gguf")
        if precision != "f16":
            file = quantize_gguf(file, folder / f"chat-{precision}.gguf", precision)
        return GGUFLLMBackend(file, n_ctx=2048, n_lanes=_LANES)

    return open


def quantize_gguf(source: Path, target: Path, precision: str) -> Path:
    """A GGUF file quantized by llama.cpp. Rows that a K-quant's blocks of 256 do not divide get one with blocks of 32.

    Args:
        source: in F16.
        target: the file to write.
        precision: "q8_0" or "q4_k_m".

    Raises:
        LoadError: llama.cpp cannot do it.
        MissingDependency: llama-cpp-python is not installed.
    """
    try:
        import llama_cpp

        from llama_pajamas_run_gguf import logs
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Quantizing", package="llama-pajamas-run-gguf", install="uv pip install llama-pajamas-run-gguf"
        ) from error
    logs.install()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{precision.upper()}")
    if code := llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params):
        raise LoadError(f"llama.cpp could not quantize {source} to {precision}: code {code}.")
    return target


def _mlx(dtype: str) -> Callable[[Path], LLMBackend]:
    def open(folder: Path) -> LLMBackend:
        from llama_pajamas_run_mlx.llm import MLXLLMBackend

        return MLXLLMBackend(checkpoint(), n_ctx=2048, n_lanes=_LANES, dtype=dtype)

    return open


def _mlx_quantized(bits: int) -> Callable[[Path], LLMBackend]:
    def open(folder: Path) -> LLMBackend:
        from llama_pajamas_run_mlx.export import export
        from llama_pajamas_run_mlx.llm import MLXLLMBackend

        target = folder / f"mlx-{bits}"
        export(checkpoint(), target, bits=bits, group_size=_GROUP, texts=["Hello!"])
        return MLXLLMBackend(target, n_ctx=2048, n_lanes=_LANES, dtype="float32")

    return open


def _row(
    subject: Subject[LLMBackend],
    folder: Path,
    answers: Sequence[Answer],
    reference: Reference,
    pieces: dict[int, bytes],
) -> Row:
    floor = FLOOR if subject.exact else None
    try:
        with subject.open(folder) as backend:
            begun = time.perf_counter()
            found = compare(backend, answers, reference, pieces)
            spent = time.perf_counter() - begun
    except PajamasError as error:
        return Row(MODEL, WHAT, None, floor, 0, 0.0, subject=subject.name, note=reason(error))
    share = 1 - len(found) / len(answers)
    return Row(MODEL, WHAT, share, floor, len(answers), spent, subject=subject.name, note=described(found))


def compare(
    backend: LLMBackend, answers: Sequence[Answer], reference: Reference, pieces: Mapping[int, bytes]
) -> list[Difference]:
    """Ask a runtime for its greedy answers.

    Args:
        backend: the chat model, loaded.
        answers: the prompts, and what the reference answered.
        reference: the record that they are of.
        pieces: the bytes of every token.

    Returns:
        the first difference of every answer that differs.
    """
    options = GenerationOptions(temperature=0.0, max_tokens=reference.max_tokens, logprobs=0)
    running, found = deque[tuple[Answer, Generation]](), list[Difference]()

    def take(answer: Answer, generation: Generation) -> None:
        completion = generation.result()
        told: list[bytes | None] = [one.token_bytes for one in completion.logprobs]
        if completion.finish_reason == "stop":
            told.append(None)
        wanted = [None if token == reference.end else pieces[token] for token in answer.tokens]
        if (place := first_difference(told, wanted)) is not None:
            found.append(Difference(place, float(answer.margins[min(place, len(answer.margins) - 1)])))

    for answer in answers:
        if len(running) == _AT_ONCE:
            take(*running.popleft())
        running.append((answer, backend.submit(GenerationRequest(answer.prompt, options))))
    while running:
        take(*running.popleft())
    return found


def first_difference(told: Sequence[Any], wanted: Sequence[Any]) -> int | None:
    """Where two sequences begin to differ; None where they are the same."""
    if told == wanted:
        return None
    pairs = enumerate(zip(told, wanted, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(told), len(wanted)))


def described(found: Sequence[Difference]) -> str:
    """Differences in words."""
    if not found:
        return "no difference"
    places = sorted(one.position for one in found)
    margins = sorted(one.margin for one in found)
    where = str(places[0]) if places[0] == places[-1] else f"{places[0]} to {places[-1]}"
    where += "" if len(places) < 3 else f" (median {statistics.median_low(places)})"
    lead = f"{margins[0]:.2g}" if len(margins) == 1 else f"{margins[0]:.2g} to {margins[-1]:.2g}"
    lead += "" if len(margins) < 3 else f" (median {statistics.median_low(margins):.2g})"
    return f"{len(found)} differ, first at token {where}, where the reference's lead is {lead} logits"


def token_bytes(folder: Path) -> dict[int, bytes]:
    """The bytes of every token of a byte-level BPE vocabulary, by id.

    Args:
        folder: holds tokenizer.json.
    """
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    letters = _byte_letters()
    pieces = {
        int(token): bytes(letters[letter] for letter in text) for text, token in tokenizer["model"]["vocab"].items()
    }
    return pieces | {int(token["id"]): token["content"].encode() for token in tokenizer["added_tokens"]}


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for those from 256 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
