"""Guesses by a smaller model with the same vocabulary."""

import time
from array import array
from collections.abc import Sequence as Many
from pathlib import Path

import llama_cpp
import numpy as np

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_gguf._session import ContextSettings, Session
from llama_pajamas_run_gguf.devices import GPU
from llama_pajamas_run_gguf.engine.batch import Batch
from llama_pajamas_run_gguf.engine.cache import SequenceCache, Slot
from llama_pajamas_run_gguf.engine.sampling import read_logits
from llama_pajamas_run_gguf.engine.sequence import Sequence
from llama_pajamas_run_gguf.tokenizer import Tokenizer

_SMOOTHING = 0.2


class ModelDrafter:
    """Runs a draft model beside the one that answers, over the same sequences. All calls on the owner thread.

    Args:
        path: the draft model's file.
        tokenizer: of the model that answers.
        settings: of its context, apart from what a draft model needs less of.
        gpu_layers: how many of its layers to put on a GPU.
        gpu: the one GPU for them; None spreads them over all.

    Raises:
        LoadError: the file cannot be loaded.
        BadInput: its vocabulary is another, or it cannot take tokens back.
    """

    def __init__(
        self, path: Path, tokenizer: Tokenizer, settings: ContextSettings, *, gpu_layers: int, gpu: GPU | None = None
    ) -> None:
        self._session = Session(path, gpu_layers=gpu_layers, gpu=gpu)
        self.cost = 0.0
        try:
            self._check(path, tokenizer)
            self._context = self._session.open_context(settings)
        except BaseException:
            self._session.close()
            raise
        self._cache = SequenceCache(
            self._context,
            cells=settings.cells,
            sequences=settings.sequences,
            rewinds=True,
            window=llama_cpp.llama_model_n_swa(self._session.model),
        )
        self._vocabulary = tokenizer.size
        self._batch = Batch(settings.batch)
        self._slots: dict[Sequence, Slot] = {}

    def propose(self, sequences: Many[Sequence], length: int) -> list["array[int]"]:
        """As :class:`Drafter` says."""
        followed = [sequence for sequence in sequences if self._follow(sequence)]
        guesses = {sequence: array("i") for sequence in followed}
        # What the draft model has not read yet comes first; its last token gives the first guess.
        pending = {s: s.tokens[len(self._slots[s].tokens) :] for s in followed}
        for number in range(length):
            start = time.perf_counter()
            chosen = self._step(pending)
            if number:  # the first step also reads what was decided since
                self.cost += _SMOOTHING * (time.perf_counter() - start - self.cost)
            pending = {}
            for sequence, token in chosen.items():
                guesses[sequence].append(token)
                pending[sequence] = array("i", [token])
            if not pending:
                break
        return [guesses.get(sequence, array("i")) for sequence in sequences]

    def forget(self, sequence: Sequence) -> None:
        """The sequence ended."""
        slot = self._slots.pop(sequence, None)
        if slot is not None:
            self._cache.release(slot)

    def close(self) -> None:
        """Free the draft model."""
        self._session.close()

    def _follow(self, sequence: Sequence) -> bool:
        """Bring the draft model's cache to what was really decided; False where it has no room."""
        slot = self._slots.get(sequence)
        if slot is None:
            slot = self._cache.acquire(sequence.tokens, None)
            if slot is None:
                return False
            self._slots[sequence] = slot
        known, wanted = np.frombuffer(slot.tokens, np.int32), np.frombuffer(sequence.tokens, np.int32)
        size = min(len(known), len(wanted) - 1)
        wrong = np.flatnonzero(known[:size] != wanted[:size])
        length = int(wrong[0]) if len(wrong) else size
        del known  # the array cannot shrink while numpy looks at it
        self._cache.truncate(slot, length)
        return True

    def _step(self, pending: dict[Sequence, "array[int]"]) -> dict[Sequence, int]:
        """Compute tokens of some sequences; the likeliest next one for each that was read to its end."""
        chosen: dict[Sequence, int] = {}
        while pending:
            self._batch.clear()
            places: dict[Sequence, int] = {}
            for sequence, tokens in list(pending.items()):
                slot = self._slots[sequence]
                chunk = tokens[: self._batch.room]
                if not len(chunk) or not self._cache.reserve(len(chunk)):
                    if not self._batch.length:
                        del pending[sequence]
                    continue
                last = len(chunk) == len(tokens)
                at = self._batch.add(chunk, len(slot.tokens), slot.id, wanted=int(last))
                self._cache.extend(slot, chunk)
                if last:
                    places[sequence] = at[0]
                    del pending[sequence]
                else:
                    pending[sequence] = tokens[len(chunk) :]
            if not self._batch.length:
                break
            if llama_cpp.llama_decode(self._context, self._batch.native):
                for slot in self._cache.slots:
                    self._cache.clear(slot)
                return {}
            for sequence, place in places.items():
                chosen[sequence] = int(np.argmax(read_logits(self._context, place, self._vocabulary)))
        return chosen

    def _check(self, path: Path, tokenizer: Tokenizer) -> None:
        vocab = self._session.vocab
        if llama_cpp.llama_vocab_n_tokens(vocab) != tokenizer.size or not self._same_pieces(tokenizer):
            raise BadInput(
                f"{path.name} has another vocabulary than the model it is to draft for.", param="draft_model"
            )
        if not self._session.rewinds:
            raise BadInput(f"{path.name} cannot take tokens back, so it cannot draft.", param="draft_model")

    def _same_pieces(self, tokenizer: Tokenizer) -> bool:
        own = Tokenizer(self._session.vocab, 1)
        step = max(tokenizer.size // 512, 1)
        return all(
            own.piece(n, special=True) == tokenizer.piece(n, special=True) for n in range(0, tokenizer.size, step)
        )
