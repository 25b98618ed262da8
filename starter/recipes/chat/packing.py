"""Training documents as packed rows of tokens, made by worker processes ahead of the training."""

import multiprocessing as mp
import os
from dataclasses import dataclass
from itertools import islice
from multiprocessing.queues import Queue

import numpy as np
import numpy.typing as npt
from rendering import documents
from tokenizers import Tokenizer

_DOCUMENTS_PER_CHUNK = 4000


@dataclass(frozen=True)
class Rows:
    """Packed documents, each array of shape (rows, length).

    Attributes:
        tokens: int16 token ids, the padding 0.
        document: uint8 number of the document within its row, the padding 255.
        learnt: bool, whether this token is a target.
    """

    tokens: npt.NDArray[np.int16]
    document: npt.NDArray[np.uint8]
    learnt: npt.NDArray[np.bool_]


def assistant_tokens(tokens: npt.NDArray[np.int64], start: int, end: int, assistant: int) -> npt.NDArray[np.bool_]:
    """Which tokens the assistant says, its end tokens included.

    Args:
        tokens: (n,) the tokens of whole conversations, one after another.
        start: id of ``<|im_start|>``.
        end: id of ``<|im_end|>``.
        assistant: id of the token "assistant"; a header is start, role, newline.
    """
    index = np.arange(len(tokens))
    last_start = np.maximum.accumulate(np.where(tokens == start, index, -1))
    ended = np.maximum.accumulate(np.where(tokens == end, index, -1))
    ended_before = np.concatenate(([-1], ended[:-1]))
    role = tokens[np.minimum(last_start + 1, len(tokens) - 1)]
    return (last_start >= 0) & (role == assistant) & (index - last_start >= 3) & (ended_before < last_start)


def pack(tokenizer: Tokenizer, pairs: list[tuple[str, str]], length: int) -> Rows:
    """Documents put into rows of ``length`` tokens; one that does not fit opens a new row, a longer one is left out."""
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    assistant = tokenizer.token_to_id("assistant")
    read = [e.ids for e in tokenizer.encode_batch([r for r, _ in pairs], add_special_tokens=False)]
    learnt = [e.ids for e in tokenizer.encode_batch([t for _, t in pairs], add_special_tokens=False)]
    tokens: list[npt.NDArray[np.int16]] = []
    docs: list[npt.NDArray[np.uint8]] = []
    masks: list[npt.NDArray[np.bool_]] = []
    row = np.zeros(length, np.int16)
    doc, mask = np.full(length, 255, np.uint8), np.zeros(length, np.bool_)
    at = number = 0
    for first, second in zip(read, learnt, strict=True):
        ids = first + second
        if len(ids) > length:
            continue
        if at + len(ids) > length or number == 255:
            tokens.append(row)
            docs.append(doc)
            masks.append(mask)
            row, doc, mask = np.zeros(length, np.int16), np.full(length, 255, np.uint8), np.zeros(length, np.bool_)
            at = number = 0
        array = np.asarray(ids)
        row[at : at + len(ids)] = array
        doc[at : at + len(ids)] = number
        if first:
            mask[at + len(first) : at + len(ids)] = True
        else:
            mask[at : at + len(ids)] = assistant_tokens(array, start, end, assistant)
        at, number = at + len(ids), number + 1
    return Rows(np.stack(tokens), np.stack(docs), np.stack(masks))


def _work(queue: "Queue[Rows]", tokenizer_json: str, seed: int, length: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer.from_str(tokenizer_json)
    stream = documents(seed, "train")
    while True:
        queue.put(pack(tokenizer, list(islice(stream, _DOCUMENTS_PER_CHUNK)), length))


def start_workers(
    tokenizer: Tokenizer, count: int, seed: int, length: int
) -> "tuple[Queue[Rows], list[mp.process.BaseProcess]]":
    """Starts worker processes that fill a queue with rows until they are ended."""
    context = mp.get_context("spawn")
    queue: Queue[Rows] = context.Queue(maxsize=64)
    workers: list[mp.process.BaseProcess] = []
    for number in range(count):
        worker = context.Process(
            target=_work, args=(queue, tokenizer.to_str(), seed * 1000 + number, length), daemon=True
        )
        worker.start()
        workers.append(worker)
    return queue, workers
