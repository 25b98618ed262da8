"""The loop: requests join and leave between steps, and every step serves all of them."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import LRUPromptCache

from llama_pajamas_run_core.backends.owner import OwnerThread
from llama_pajamas_run_core.errors import BadInput, Busy, Cancelled, PajamasError
from llama_pajamas_run_core.types.chat import FinishReason
from llama_pajamas_run_mlx._session import as_fault
from llama_pajamas_run_mlx.engine.adapters import Adapter, Adapters, Rows
from llama_pajamas_run_mlx.engine.request import Request
from llama_pajamas_run_mlx.engine.sampling import greedy
from llama_pajamas_run_mlx.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

#: What conversations without an adapter are kept under in the prompt cache.
_MODEL: Final = "model"


class StepModel:
    """A model as the batch generator calls it.

    Its logits are float32, so that their normalization does not make neighbours equal; and the last of its caches,
    which is none of keys and values, says which adapter each sequence uses.

    Args:
        model: of mlx-lm.
        adapters: of the model.
    """

    def __init__(self, model: nn.Module, adapters: Adapters) -> None:
        self._model = model
        self._adapters = adapters

    def __call__(self, *arguments: Any, cache: list[Any], **named: Any) -> mx.array:
        """As the model, float32 [b, n, v]."""
        *caches, rows = cache
        self._adapters.choose(rows)
        try:
            logits: mx.array = self._model(*arguments, cache=caches, **named)
        finally:
            self._adapters.choose(None)
        return logits.astype(mx.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class Engine:
    """Continuous batching with mlx-lm's batch generator.

    A step is one job on the thread that owns MLX, and asks for the next one while there is work; so whatever else has
    to run on that thread (another model's step, unloading) runs between two steps. An idle engine costs nothing.

    Args:
        model: of mlx-lm.
        tokenizer: of the model.
        lanes: how many requests are worked on at once.
        batch: the most tokens of a prompt in one step.
        cache_bytes: bytes of keys and values to keep of answers that have ended.
        max_waiting: how many more may wait.
        adapters: of the model.
        make_cache: makes the caches of a new sequence, one for each layer.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        lanes: int,
        batch: int,
        cache_bytes: int,
        max_waiting: int,
        adapters: Adapters,
        make_cache: Callable[[], list[Any]],
    ) -> None:
        self._model = StepModel(model, adapters)
        self._adapters = adapters
        self._make_cache = make_cache
        self._tokenizer = tokenizer
        self._lanes = lanes
        self._batch = batch
        self._max_waiting = max_waiting
        self._generator = self._open()
        self._cache = LRUPromptCache(max_size=2 * lanes, max_bytes=cache_bytes) if cache_bytes else None
        self._running: dict[int, Request] = {}
        self._lock = threading.Lock()  # guards the four below; steps run one at a time
        self._owner: OwnerThread | None = None
        self._waiting: list[Request] = []
        self._scheduled = False
        self._closed = False

    # From any thread

    def submit(self, request: Request, owner: OwnerThread) -> None:
        """Queue a request.

        Args:
            request: the request.
            owner: the thread that loaded the model; all steps run there.

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
            self._waiting.append(request)
            self._schedule()

    def uses(self, adapter: Adapter) -> bool:
        """Whether a request that is running or waiting wants an adapter."""
        with self._lock:
            return any(request.adapter is adapter for request in [*self._running.values(), *self._waiting])

    @property
    def load(self) -> dict[str, int]:
        """How many requests are running and waiting."""
        return {"running": len(self._running), "waiting": len(self._waiting)}

    # On the owner thread

    def close(self) -> None:
        """End all requests and free the caches."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for request in [*self._running.values(), *waiting]:
            request.generation.fail(Cancelled("The model was closed."))
        self._running.clear()
        self._generator.close()
        self._cache = None

    def _open(self) -> BatchGenerator:
        return BatchGenerator(
            self._model,
            stop_tokens=[[token] for token in sorted(self._tokenizer.ends)],
            sampler=greedy,
            completion_batch_size=self._lanes,
            prefill_batch_size=self._lanes,
            prefill_step_size=self._batch,
        )

    def _schedule(self) -> None:
        if not self._scheduled and self._owner is not None:
            self._scheduled = True
            self._owner.submit(self._step)

    def _step(self) -> None:
        with self._lock:
            self._scheduled = False
            if self._closed:
                return
        try:
            self._drop_cancelled()
            self._admit()
            if self._running:
                self._advance()
        except Exception as error:  # a broken engine must not leave readers waiting for ever
            _log.exception("step failed")
            self._recover(as_fault(error))
        with self._lock:
            if not self._closed and (self._running or self._waiting):
                self._schedule()

    def _recover(self, error: PajamasError) -> None:
        """Nothing that the generator holds can be relied on."""
        for request in self._running.values():
            request.generation.fail(error)
        self._running.clear()
        self._generator.close()
        self._generator = self._open()

    def _drop_cancelled(self) -> None:
        with self._lock:
            self._waiting = [request for request in self._waiting if not request.generation.cancelled]
        for uid, request in list(self._running.items()):
            if request.generation.cancelled:
                self._leave(uid)

    def _admit(self) -> None:
        while len(self._running) < self._lanes:
            with self._lock:
                if not self._waiting:
                    return
                request = min(self._waiting, key=lambda waiting: waiting.order)
                self._waiting.remove(request)
            try:
                self._start(request)
            except Exception as error:
                request.generation.fail(as_fault(error))

    def _start(self, request: Request) -> None:
        self._adapters.check(request.adapter)
        sampler, processors = request.open()
        cache, prompt, adapter = None, request.prompt, request.adapter
        if self._cache is not None and len(prompt) > 1:
            # The last token is always computed: its logits choose the first one of the answer.
            cache, rest = self._cache.fetch_nearest_cache(_kept_under(request), prompt[:-1])
            prompt = [*rest, prompt[-1]]
            request.cached = len(request.prompt) - len(prompt)
        if cache is None:
            cache = [*self._make_cache(), Rows([0 if adapter is None else adapter.slot])]
        (uid,) = self._generator.insert(
            [prompt],
            max_tokens=[request.max_tokens],
            caches=[cache],
            all_tokens=[request.prompt[: request.cached]],
            samplers=[sampler],
            logits_processors=[processors],
        )
        self._running[uid] = request

    def _advance(self) -> None:
        _, responses = self._generator.next()
        for response in responses:
            request = self._running.get(response.uid)
            if request is None:
                continue
            if response.finish_reason is not None:
                del self._running[response.uid]
                self._remember(request, response)
            if request.error is not None:
                self._fail(response.uid, request, request.error)
                continue
            try:
                self._take(request, response)
            except Exception as error:
                _log.exception("an answer could not be continued")
                self._fail(response.uid, request, error)

    def _take(self, request: Request, response: Any) -> None:
        if response.finish_reason != "stop":
            request.add(response.token)
        if request.generation.cancelled and response.finish_reason is None:
            self._leave(response.uid)
        elif response.finish_reason is not None:
            reason: FinishReason = "length" if response.finish_reason == "length" else "stop"
            request.finish(reason)

    def _remember(self, request: Request, response: Any) -> None:
        """Keep the keys and values of an answer that ended, for the next turn of its conversation."""
        if self._cache is not None and response.prompt_cache is not None:
            mx.eval([layer.state for layer in response.prompt_cache])
            self._cache.insert_cache(_kept_under(request), list(response.all_tokens), response.prompt_cache)

    def _leave(self, uid: int) -> None:
        """Its reader left, or a stop string was found."""
        request = self._running.pop(uid)
        self._generator.remove([uid])
        if request.generation.stopped:
            request.finish("stop")

    def _fail(self, uid: int, request: Request, error: Exception) -> None:
        if self._running.pop(uid, None) is not None:
            self._generator.remove([uid])
        request.generation.fail(as_fault(error))


def _kept_under(request: Request) -> str:
    """Keys and values are of the adapter that they were computed with."""
    return _MODEL if request.adapter is None else request.adapter.key
