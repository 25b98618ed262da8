"""The loop: requests join and leave between decode steps, and every step serves all of them."""

import logging
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import llama_cpp

from llama_pajamas_run_core.backends.generation import together
from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.errors import BadInput, Busy, Cancelled, InferenceError, OutOfMemory
from llama_pajamas_run_core.language.logprobs import logprob
from llama_pajamas_run_core.types.chat import FinishReason, TokenLogprob
from llama_pajamas_run_gguf.engine.adapters import Adapter, Adapters
from llama_pajamas_run_gguf.engine.batch import Batch
from llama_pajamas_run_gguf.engine.cache import SequenceCache, Slot
from llama_pajamas_run_gguf.engine.pacing import SHORT, Pacer, Turn
from llama_pajamas_run_gguf.engine.sampling import Candidates, Sampler, read_logits
from llama_pajamas_run_gguf.engine.sequence import Sequence
from llama_pajamas_run_gguf.engine.side_reader import SideReader
from llama_pajamas_run_gguf.engine.spans import Senses
from llama_pajamas_run_gguf.engine.speculation import Speculator
from llama_pajamas_run_gguf.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

#: Which part of the time for reading its prompt a request waits for others when the engine was idle; at least, at most.
_GATHERING, _SHORTEST_GATHERING, _LONGEST_GATHERING = 0.03, 0.001, 0.005
#: Candidates in all from which on choosing on several threads is worth their being woken.
_WORTH_THREADS = 500_000
#: Up to how many bytes of a sequence are copied while nobody asks for anything: some hundredths of a second.
_COPIED_AHEAD = 16 << 20
#: llama_decode's answer when the KV cache has no room for a batch.
_NO_ROOM = 1


@dataclass(slots=True)
class Work:
    """A sequence's part in a step.

    Attributes:
        sequence: whose.
        count: how many of its known tokens are computed.
        draft: guesses of the tokens after them.
    """

    sequence: Sequence
    count: int
    draft: "array[int]" = field(default_factory=lambda: array("i"))

    @property
    def size(self) -> int:
        """Tokens in all."""
        return self.count + len(self.draft)

    @property
    def slot(self) -> Slot:
        """Where the sequence is in the cache."""
        assert self.sequence.slot is not None  # running sequences have one
        return self.sequence.slot


class Engine:
    """Continuous batching over one context.

    A step is one job on the thread that owns the model, and asks for the next one while there is work; so whatever else
    has to run on that thread (embeddings, unloading) runs between two steps. An idle engine costs nothing.

    Args:
        context: of llama.cpp.
        tokenizer: of the model.
        vocab: of the model.
        cache: of the context.
        adapters: of the model.
        speculator: guesses tokens, or None.
        senses: computes pictures and sounds, or None.
        side: reads long prompts beside running answers, or None to read them in small chunks with the answers' steps.
        lanes: how many requests are worked on at once.
        batch: the most tokens of one decode call.
        outputs: of how many of them logits can be had.
        max_waiting: how many more may wait.
        draws: threads that choose tokens side by side while the model computes elsewhere; 1 for none.
    """

    def __init__(
        self,
        context: Any,
        tokenizer: Tokenizer,
        vocab: Any,
        cache: SequenceCache,
        adapters: Adapters,
        speculator: Speculator | None = None,
        senses: Senses | None = None,
        side: SideReader | None = None,
        *,
        lanes: int,
        batch: int,
        outputs: int,
        max_waiting: int,
        draws: int = 1,
    ) -> None:
        self._context = context
        self._owner: OwnerThread | None = None
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._cache = cache
        self._adapters = adapters
        self._speculator = speculator
        self._senses = senses
        self._side = side
        self._held: list[int] = []  # cells for the prompt that is read aside
        self._outputs = outputs
        self._turn = Turn()
        self._lanes = lanes
        self._max_waiting = max_waiting
        self._batch = Batch(batch)
        self._candidates = Candidates(tokenizer.size)
        self._pacer = Pacer(batch)
        self._draws = draws
        self._drawers = ThreadPoolExecutor(draws, "draw") if draws > 1 else None
        self._running: list[Sequence] = []
        self._blocked = False  # the first in line found no room; not tried again before something changes
        self._lock = threading.Lock()  # guards the three below; steps run one at a time
        self._waiting: list[Sequence] = []
        self._scheduled = False
        self._closed = False

    # From any thread

    def submit(self, sequence: Sequence, owner: OwnerThread) -> None:
        """Queue a request.

        Args:
            sequence: the request.
            owner: the thread that made the context; all steps run there.

        Raises:
            Busy: too many are waiting.
            BadInput: the model was closed.
        """
        with self._lock:
            if self._closed:
                raise BadInput("The model was closed.")
            waiting = sum(not other.generation.cancelled for other in self._waiting)
            if waiting >= self._max_waiting:
                raise Busy(f"{waiting} requests are waiting for this model.", hint="Try again later.")
            self._owner = owner
            self._waiting.append(sequence)
            self._blocked = False
            self._schedule()

    @property
    def load(self) -> dict[str, int]:
        """How many requests are running and waiting, and how many cells of the cache are free."""
        return {"running": len(self._running), "waiting": len(self._waiting), "cells_free": self._cache.ledger.free}

    def uses(self, adapter: Adapter) -> bool:
        """Whether a request that is running or waiting wants an adapter."""
        with self._lock:
            return any(sequence.adapter is adapter for sequence in (*self._running, *self._waiting))

    # On the owner thread

    def close(self) -> None:
        """End all requests."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for sequence in [*self._running, *waiting]:
            self._fail(sequence, Cancelled("The model was closed."))
        if self._side is not None:
            self._side.close()
        if self._drawers is not None:
            self._drawers.shutdown()

    def _schedule(self) -> None:
        if not self._scheduled and self._owner is not None:
            self._scheduled = True
            self._owner.submit(self._step)

    def _step(self) -> None:
        with self._lock:
            self._scheduled = False
            if self._closed:
                return
        if not self._running:
            self._gather()
        self._serve()
        self._read_aside()
        with self._lock:
            if not self._closed and (self._running or self._waiting):
                self._schedule()
            elif self._owner is not None:
                self._owner.submit(self._rest)

    def _rest(self) -> None:
        """Nobody asks for anything: copy what was finished to where it will be in nobody's way, one after the other."""
        with self._lock:
            if self._closed or self._running or self._waiting or self._owner is None:
                return
        if self._cache.copy_ahead(_COPIED_AHEAD):
            self._owner.submit(self._rest)

    def _serve(self) -> None:
        """See who came and left, and compute a step for those who are there."""
        try:
            self._drop_cancelled()
            self._admit()
            self._look()
            self._begin_aside()
            if self._running:
                self._cache.settle()
                self._decode()
        except Exception as error:  # a broken engine must not leave readers waiting for ever
            _log.exception("step failed")
            for sequence in list(self._running):
                self._fail(sequence, error if isinstance(error, InferenceError) else InferenceError(str(error)))

    def _gather(self) -> None:
        """Wait a moment for those who come together with the first, and again as long as somebody came.

        A crowd's prompts are then read in one step, and nobody waits for the step of whoever was first by a hair. The
        moment is a small part of the time that reading takes anyway, so it costs who comes alone next to nothing.
        """
        came, quiet_since, moment = 0, 0.0, 0.0
        while True:
            with self._lock:
                waiting, tokens = len(self._waiting), sum(len(sequence.tokens) for sequence in self._waiting)
            if waiting >= self._lanes or tokens >= self._batch.size:
                return
            now = time.perf_counter()
            if waiting != came:
                came, quiet_since = waiting, now
                moment = _GATHERING * self._pacer.reading_time(tokens)
                moment = min(max(moment, _SHORTEST_GATHERING), _LONGEST_GATHERING)
            elif now - quiet_since >= moment:
                return
            time.sleep(_SHORTEST_GATHERING)

    def _drop_cancelled(self) -> None:
        with self._lock:
            gone = [sequence for sequence in self._waiting if sequence.generation.cancelled]
            self._waiting = [sequence for sequence in self._waiting if not sequence.generation.cancelled]
        for sequence in gone:
            self._close(sequence)
        for sequence in list(self._running):
            if sequence.generation.cancelled:
                self._leave(sequence)

    # Admission

    def _admit(self) -> None:
        while not self._blocked and (sequence := self._next()) is not None:
            if not self._start(sequence):
                with self._lock:
                    self._waiting.append(sequence)
                    self._blocked = True

    def _next(self) -> Sequence | None:
        """Take the first in line, if there is a lane for it."""
        with self._lock:
            if not self._waiting:
                return None
            first = min(self._waiting, key=lambda sequence: sequence.order)
            if len(self._running) >= self._lanes:
                last = max(self._running, key=lambda sequence: sequence.order)
                if last.priority >= first.priority:
                    return None
            self._waiting.remove(first)
        if len(self._running) >= self._lanes:
            self._put_back(last)
        return first

    def _start(self, sequence: Sequence) -> bool:
        """Give a request a lane; False where the cache has no room for it as long as others run."""
        try:
            self._adapters.check(sequence.adapter)
            sequence.open(self._tokenizer, self._vocab)
        except BadInput as error:
            self._fail(sequence, error)
            return True
        if not self._cache.admits(len(sequence.tokens), len(self._running)):
            return False
        slot = self._cache.acquire(sequence.tokens, sequence.adapter)
        if slot is None:
            return False
        if sequence.cached is None:
            sequence.cached = len(slot.tokens)
        sequence.unread = len(sequence.tokens) - len(slot.tokens)
        sequence.slot = slot
        self._running.append(sequence)
        return True

    # A step

    def _look(self) -> None:
        """Compute the picture or sound of one sequence whose turn it is, so that the others go on in between."""
        waiting = [sequence for sequence in self._running if sequence.next_span is not None]
        if not waiting or self._senses is None:
            return
        sequence = min(waiting, key=lambda sequence: sequence.order)
        span, slot = sequence.next_span, sequence.slot
        assert span is not None
        assert slot is not None
        while not self._cache.reserve(span.tokens):
            behind = [other for other in self._running if other.order > sequence.order]
            if not behind:
                self._put_back(sequence)
                return
            self._put_back(max(behind, key=lambda other: other.order))
        self._adapters.apply(sequence.adapter, self._context)
        try:
            self._senses.compute(span, self._context, slot.id, slot.position(span.start))
        except InferenceError as error:
            self._fail(sequence, error)
            self._cache.clear(slot)
            return
        self._cache.extend(slot, sequence.tokens[span.start : span.end])
        slot.spans.append(span)

    def _decode(self) -> None:
        plan, answering = self._plan()
        if not plan:
            return
        self._cache.compact([work.slot for work in plan])
        outputs = self._fill(plan)
        tokens = self._batch.length
        start = time.perf_counter()
        code = llama_cpp.llama_decode(self._context, self._batch.native)
        if code:
            self._recover(code)
            return
        llama_cpp.llama_synchronize(self._context)  # a GPU computes on after the call
        end = time.perf_counter()
        seconds = end - start
        beside = self._side is not None and self._side.sequence is not None  # steps are dearer then
        if (tokens == answering and not beside) or any(not work.sequence.answered for work in plan):
            self._pacer.learn(seconds, end, answering=answering, reading=tokens - answering)
        if self._speculator is not None:
            self._speculator.learn(tokens, seconds)
        drawn = self._draw(outputs)
        with together():
            for work, places in outputs:
                self._advance(work, places, drawn.get(places.start))

    def _plan(self) -> tuple[list[Work], int]:
        """Whose tokens the next step computes, and how many; and how many of these sequences are answering.

        Where the cache has no room for that, guesses are left out, then the last in line gives way.
        """
        guess = self._speculator is not None
        while present := [sequence for sequence in self._running if not self._waits(sequence)]:
            adapter = self._turn.choose([sequence.adapter for sequence in present])
            self._adapters.apply(adapter, self._context)
            group = [sequence for sequence in present if sequence.adapter is adapter]
            answering = [sequence for sequence in group if sequence.answering]
            reading = [sequence for sequence in group if not sequence.answering]
            shares = self._pacer.shares(len(answering), reading)
            plan = [Work(sequence, 1) for sequence in answering] + [Work(*part) for part in shares]
            if guess:
                self._guess(plan, answering)
            if self._cache.reserve(sum(work.size for work in plan)):
                return plan, len(answering)
            if guess:
                guess = False
            elif len(self._running) == 1:
                self._fail(self._running[0], OutOfMemory("The KV cache is too small for this request."))
            else:
                self._put_back(max(self._running, key=lambda sequence: sequence.order))
        return [], 0

    def _guess(self, plan: list[Work], answering: list[Sequence]) -> None:
        """Add guessed tokens to the sequences that are answering, as far as the batch has room."""
        assert self._speculator is not None
        used = sum(work.size for work in plan)
        drafts = self._speculator.drafts(answering, used - len(answering))
        for work, draft in zip(plan, drafts, strict=False):
            work.draft = draft[: max(min(self._batch.size, self._outputs) - used, 0)]
            used += len(work.draft)

    def _fill(self, plan: list[Work]) -> list[tuple[Work, range]]:
        """Put a step's tokens into the batch; returns whose next token is due, with the places of its logits."""
        self._batch.clear()
        outputs = []
        for work in sorted(plan, key=lambda work: work.slot.id):  # as a cache in streams wants them
            sequence, slot = work.sequence, work.slot
            start = len(slot.tokens)
            chunk = sequence.tokens[start : start + work.count] + work.draft
            due = start + work.count == len(sequence.tokens)
            self._cache.extend(slot, chunk)
            places = self._batch.add(chunk, slot.position(start), slot.id, wanted=len(work.draft) + 1 if due else 0)
            if due:
                outputs.append((work, places))
        return outputs

    def _put_back(self, sequence: Sequence) -> None:
        """Take a request's lane; it waits at its old place in line and goes on where it was."""
        _log.debug("request=%d is put back after %d tokens", sequence.arrival, sequence.answered)
        self._release(sequence)
        with self._lock:
            self._waiting.append(sequence)

    def _draw(self, outputs: list[tuple[Work, range]]) -> dict[int, int]:
        """The tokens of places whose sampler can choose beside others, where that is worth the threads.

        One choice among 128,000 tokens takes a good part of a millisecond, thirty of them longer than a step of the
        model on a GPU.
        """
        if self._drawers is None or len(outputs) * self._tokenizer.size < _WORTH_THREADS:
            return {}
        simple = [
            (work.sequence.sampler, places.start)
            for work, places in outputs
            if len(places) == 1 and work.sequence.sampler is not None and work.sequence.sampler.free
        ]
        if len(simple) < 2:
            return {}
        # The first access sorts the outputs inside llama.cpp; after it they are only read.
        read_logits(self._context, simple[0][1], 1)
        parts = [simple[start :: self._draws] for start in range(min(self._draws, len(simple)))]

        def choose(part: list[tuple[Sampler, int]]) -> list[tuple[int, int]]:
            return [(place, sampler.draw(self._context, place)) for sampler, place in part]

        return dict(pair for pairs in self._drawers.map(choose, parts) for pair in pairs)

    def _advance(self, work: Work, places: range, drawn: int | None) -> None:
        """Choose a sequence's next token, and those behind it as long as they were guessed; see whether it ended."""
        sequence, right = work.sequence, 0
        for number, place in enumerate(places):
            token = self._choose(sequence, place, drawn)
            if token is None:
                break
            if number == len(work.draft) or token != work.draft[number]:
                break
            right += 1
        if self._speculator is not None:
            self._speculator.judge(sequence, len(work.draft), right)
        if sequence.slot is not None and len(work.draft):
            self._cache.truncate(sequence.slot, len(sequence.tokens) - 1)

    def _choose(self, sequence: Sequence, place: int, drawn: int | None) -> int | None:
        """Choose the token for one place, unless it was drawn before; None where the answer ended with it."""
        try:
            sampler = sequence.open(self._tokenizer, self._vocab)
            token = sampler.sample(self._context, place, self._candidates) if drawn is None else drawn
            if token in self._tokenizer.ends:
                self._finish(sequence, "stop")
                return None
            report: tuple[TokenLogprob, ...] = ()
            if sequence.logprobs is not None:
                logits = read_logits(self._context, place, self._tokenizer.size)
                report = (logprob(logits, token, sequence.logprobs, self._tokenizer),)
            sequence.add(token, report)
        except Exception as error:
            if not isinstance(error, InferenceError):
                _log.exception("request=%d failed", sequence.arrival)
                error = InferenceError(f"The answer could not be continued: {error}")
            self._fail(sequence, error)
            return None
        if sequence.generation.cancelled:
            self._leave(sequence)
        elif len(sequence.tokens) >= sequence.end:
            self._finish(sequence, "length")
        else:
            return token
        return None

    def _recover(self, code: int) -> None:
        """llama_decode refused a batch: nothing of it can be relied on."""
        if code == _NO_ROOM and len(self._running) > 1:
            _log.warning("the KV cache has no room for a batch of %d tokens", self._batch.length)
            last = max(self._running, key=lambda sequence: sequence.order)
            self._put_back(last)
            for slot in self._cache.slots:
                self._cache.clear(slot)
            return
        error = (
            OutOfMemory("The KV cache is too small.") if code == _NO_ROOM else InferenceError(f"llama_decode: {code}")
        )
        for sequence in list(self._running):
            self._fail(sequence, error)
        for slot in self._cache.slots:
            self._cache.clear(slot)

    # Long prompts

    def _long(self, sequence: Sequence) -> bool:
        """Whether its prompt is better read aside, as long as others answer."""
        return sequence.aside and not sequence.spans and not sequence.answering and sequence.ahead > SHORT

    def _waits(self, sequence: Sequence) -> bool:
        """Whether a sequence is being read aside, or is the next one to be."""
        reader = None if self._side is None else self._side.sequence
        return reader is not None and (reader is sequence or self._long(sequence))

    def _begin_aside(self) -> None:
        """Have the first long prompt in line read aside, if that helps somebody."""
        side = self._side
        if side is None or side.computing or side.sequence is not None:
            return
        long = [sequence for sequence in self._running if self._long(sequence)]
        if not long or not any(sequence.answering for sequence in self._running):
            return
        sequence = min(long, key=lambda sequence: sequence.order)
        slot = sequence.slot
        assert slot is not None  # running sequences have one
        if not self._cache.reserve(sequence.ahead):
            return
        start = len(slot.tokens)
        state = self._cache.read(slot) if start else None
        try:
            if (state is None and start) or not side.begin(sequence, start, state):
                sequence.aside = False
                return
        except OutOfMemory as error:
            _log.info("request=%d is read with the answers' steps: %s", sequence.arrival, error.message)
            sequence.aside = False
            return
        self._held = self._cache.hold(sequence.ahead)

    def _read_aside(self) -> None:
        """Read a part of a long prompt, the others' steps in between."""
        side = self._side
        if side is None or side.sequence is None:
            return
        sequence = side.sequence
        try:
            if side.read(self._meanwhile) and side.sequence is sequence:
                self._end_aside(sequence)
        except Exception as error:
            if not isinstance(error, InferenceError):
                _log.exception("request=%d could not be read aside", sequence.arrival)
                error = InferenceError(f"The prompt could not be read: {error}")
            self._fail(sequence, error)
        if side.sequence is not sequence:  # it is read, or left meanwhile
            side.close()

    def _meanwhile(self) -> float:
        """The others' work; returns how many seconds it can wait then."""
        self._serve()
        answering = sum(sequence.answering for sequence in self._running)
        return self._pacer.pause(answering, sum(self._long(sequence) for sequence in self._running))

    def _end_aside(self, sequence: Sequence) -> None:
        """Bring what was read aside into the cache of all."""
        assert self._side is not None
        state, slot = self._side.take(), sequence.slot
        assert slot is not None
        self._side.drop()
        self._cache.let_go(self._held)
        self._held = []
        if state is None or not self._cache.replace(slot, sequence.tokens[:-1], state):
            _log.info("request=%d is read once more: the cache has no room for what was read aside", sequence.arrival)
            sequence.aside = False

    # Leaving

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish(reason)
        self._close(sequence)

    def _leave(self, sequence: Sequence) -> None:
        """Its reader left, or a stop string was found."""
        if sequence.generation.stopped:
            self._finish(sequence, "stop")
        else:
            self._close(sequence)

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        sequence.generation.fail(error)
        self._close(sequence)

    def _close(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.close()
        if self._speculator is not None:
            self._speculator.forget(sequence)

    def _release(self, sequence: Sequence) -> None:
        if sequence in self._running:
            self._running.remove(sequence)
        if self._side is not None and self._side.sequence is sequence:
            self._side.drop()
            self._cache.let_go(self._held)
            self._held = []
        slot, sequence.slot = sequence.slot, None
        if slot is not None:
            self._cache.release(slot)
            self._blocked = False
