"""Long prompts, read in a context of their own between the steps of running answers.

On a processor a long prompt beside running answers costs twice. In the same KV cache it slows every step of theirs, as
attention looks over all of it; and in chunks small enough to leave the answers their pace, reading takes several times
as long as in large ones. So a long prompt gets a context of its own, where it is read in large chunks, and llama.cpp's
observer of the computation, called after every tensor, lets the answers take their step when it is time. Once the
prompt is read, its keys and values move to the cache of the others.
"""

import logging
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import llama_cpp

from llama_pajamas_run_core.errors import InferenceError
from llama_pajamas_run_gguf import devices
from llama_pajamas_run_gguf._session import ContextSettings, Session
from llama_pajamas_run_gguf.engine.adapters import Adapters
from llama_pajamas_run_gguf.engine.batch import Batch
from llama_pajamas_run_gguf.engine.sequence import Sequence
from llama_pajamas_run_gguf.engine.states import State, read_state, write_state
from llama_pajamas_run_gguf.memory import round_up

_log = logging.getLogger(__name__)

#: Tokens of a chunk. ggml computes the attention of fewer on a processor token by token, which takes three times as
#: long, and of more in no less time for each; and the longer a chunk, the longer its tensors keep the answers waiting.
_CHUNK = 64
#: The part of the free memory that a prompt's keys and values may take, in the context and as they are carried over.
_MEMORY_SHARE = 0.5


class SideReader:
    """Reads the prompt of one sequence at a time. All calls on the owner thread.

    Args:
        session: the model.
        settings: of the context that the prompts are for.
        adapters: of the model.
        cell: bytes of keys and values of one token.
    """

    def __init__(self, session: Session, settings: ContextSettings, adapters: Adapters, *, cell: float) -> None:
        self._session = session
        self._cell = cell
        self._streams = None if settings.unified else settings.sequences
        self._settings = replace(settings, sequences=1, unified=True, batch=min(_CHUNK, settings.batch), outputs=1)
        self._adapters = adapters
        self._batch = Batch(self._settings.batch)
        self._observer = llama_cpp.ggml_backend_sched_eval_callback(self._observe)
        self._context: Any = None
        self._tokens = array("i")
        self._done = 0
        self._meanwhile: Callable[[], float] = lambda: 1.0
        self._until = 0.0
        #: Whose prompt it is reading, None for nobody's.
        self.sequence: Sequence | None = None
        #: Whether it is computing right now, so that what is running was called by it.
        self.computing = False

    def begin(self, sequence: Sequence, start: int, state: State | None) -> bool:
        """Take on a sequence's prompt, but for its last token, whose logits are wanted.

        Args:
            sequence: whose.
            start: how many of its tokens are computed already.
            state: their keys and values; None if there are none.

        Returns:
            whether it could: False where there is no memory for it.

        Raises:
            OutOfMemory: there is none for another context.
        """
        tokens = sequence.tokens[:-1]
        cells = round_up(len(tokens))
        free = devices.host_memory_free()
        if free is not None and 2 * cells * self._cell > _MEMORY_SHARE * free:
            return False
        self._context = self._session.open_context(replace(self._settings, cells=cells), observer=self._observer)
        if state is not None and not write_state(self._context, 0, state):
            self.close()
            return False
        self._adapters.apply(sequence.adapter, self._context)
        self._tokens, self._done, self.sequence = tokens, start, sequence
        _log.debug("request=%d has %d tokens read aside", sequence.arrival, len(tokens) - start)
        return True

    def read(self, meanwhile: Callable[[], float]) -> bool:
        """Read a chunk.

        Args:
            meanwhile: does the others' work, and tells after how many seconds it wants to be called again.

        Returns:
            whether the prompt is read.

        Raises:
            InferenceError: llama.cpp refused it.
        """
        assert self.sequence is not None
        chunk = self._tokens[self._done : self._done + self._batch.size]
        self._batch.clear()
        self._batch.add(chunk, self._done, 0, wanted=0)
        self._meanwhile = meanwhile
        self.computing = True
        try:
            self._resume()
            code = llama_cpp.llama_decode(self._context, self._batch.native)
            llama_cpp.llama_synchronize(self._context)
        finally:
            self.computing = False
        if code:
            raise InferenceError(f"llama_decode: {code}")
        self._done += len(chunk)
        return self._done == len(self._tokens)

    def take(self) -> State | None:
        """What was read, as keys and values of one sequence for the cache of all."""
        return read_state(self._context, 0, streams=self._streams)

    def drop(self) -> None:
        """Its sequence left. While it computes, the context stays until :meth:`close`."""
        self.sequence = None
        if not self.computing:
            self.close()

    def close(self) -> None:
        """Free its context; not while it computes."""
        self.sequence = None
        if self._context is not None:
            self._adapters.forget(self._context)
            self._session.close_context(self._context)
            self._context = None

    def _observe(self, _tensor: Any, ask: bool, _data: Any) -> bool:
        """llama.cpp asks before each tensor whether to show it, and shows it once it is computed."""
        if not ask and time.perf_counter() >= self._until:
            self._resume()
        return True  # to be shown, and to go on

    def _resume(self) -> None:
        pause = self._meanwhile()
        self._until = time.perf_counter() + pause
