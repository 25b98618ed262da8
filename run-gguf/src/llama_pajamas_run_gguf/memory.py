"""How much memory a model takes, told before it is loaded, and how to make it fit.

llama.cpp itself does the sums: it loads a model and makes a context without taking memory for them ("no_alloc"), and
says how large its buffers would be.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Self

import llama_cpp

from llama_pajamas_run_core.errors import BadInput, OutOfMemory
from llama_pajamas_run_gguf import logs
from llama_pajamas_run_gguf._session import CELL_STEP, ContextSettings, Session
from llama_pajamas_run_gguf.devices import GPU

_log = logging.getLogger(__name__)

#: What is left free, for what runs beside the model.
_RESERVE: Final = 0.05
#: The part of free memory that a cache takes which nobody asked to be of any size.
_CACHE_SHARE: Final = 0.25
_SMALLEST_CONTEXT: Final = 512
_MEBIBYTE: Final = 1 << 20

_HINT: Final = "Choose a smaller n_ctx or kv_cells, kv_type='q8_0', or fewer n_gpu_layers."
_HINT_STREAMS: Final = "Choose kv_unified=True, a smaller n_ctx, fewer n_lanes, kv_type='q8_0', or fewer n_gpu_layers."

_CACHE_SIZE = re.compile(r"^llama_(?:kv_cache|memory_recurrent)\S*: size = +([\d.]+) MiB")
_BUFFER_SIZE = re.compile(r": +(\S+) +(compute|output) buffer size = +([\d.]+) MiB")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a model takes.

    Attributes:
        weights: of the model.
        cache: keys and values of the context.
        compute: buffers for what is computed in a step.
        on_gpu: how much of it all is on a GPU.
        caches: how many caches of different kinds the context has; more than one with sliding windows, for example.
    """

    weights: int
    cache: int
    compute: int
    on_gpu: int = 0
    caches: int = 1

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.compute

    @property
    def on_host(self) -> int:
        """What is not on a GPU."""
        return self.total - self.on_gpu


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is loaded.

    Attributes:
        context: tokens of one conversation at the most.
        settings: of the context.
        gpu_layers: how many layers go on a GPU; -1 for all.
    """

    context: int
    settings: ContextSettings
    gpu_layers: int

    @classmethod
    def of(cls, context: int, settings: ContextSettings, gpu_layers: int) -> Self:
        """A plan whose cache holds a conversation at least, in llama.cpp's steps."""
        return cls(context, replace(settings, cells=max(round_up(settings.cells), round_up(context))), gpu_layers)


class Rehearsal:
    """A model that is loaded without taking memory. All calls on one thread.

    Args:
        path: the GGUF file.
        gpu: the one GPU that it is for; None for all.

    Raises:
        LoadError: it cannot be loaded.
    """

    def __init__(self, path: Path, gpu: GPU | None = None) -> None:
        self._path, self._gpu = path, gpu
        self._sessions: dict[int, Session] = {}

    def session(self, gpu_layers: int) -> Session:
        """The model, with so many layers on a GPU."""
        if gpu_layers not in self._sessions:
            self._sessions[gpu_layers] = Session(self._path, gpu_layers=gpu_layers, rehearse=True, gpu=self._gpu)
        return self._sessions[gpu_layers]

    def measure(self, plan: Plan) -> Footprint:
        """What a model takes when it is loaded so.

        Raises:
            BadInput: the model cannot have a cache of that type.
        """
        session = self.session(plan.gpu_layers)
        with logs.collected(everything=True) as lines:
            session.close_context(session.open_context(plan.settings))
        weights = int(llama_cpp.llama_model_size(session.model))
        return footprint(lines, weights, layers=llama_cpp.llama_model_n_layer(session.model), on_gpu=plan.gpu_layers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


def footprint(lines: Iterable[str], weights: int, *, layers: int, on_gpu: int) -> Footprint:
    """Add up what llama.cpp reports.

    Args:
        lines: of its log, while a context was made.
        weights: bytes of the model's weights.
        layers: how many layers it has.
        on_gpu: how many of them are on a GPU; -1 for all. Weights and cache are taken to lie there in proportion.
    """
    cache = compute = device = 0.0
    caches = 0
    for line in lines:
        if found := _CACHE_SIZE.search(line):
            cache += float(found[1])
            caches += 1
        elif found := _BUFFER_SIZE.search(line):
            compute += float(found[3])
            device += 0.0 if "CPU" in found[1] or found[1].endswith("_Host") else float(found[3])
    share = 0.0
    if llama_cpp.llama_supports_gpu_offload():
        share = 1.0 if on_gpu < 0 else min(on_gpu / max(layers, 1), 1.0)
    device += share * (cache + weights / _MEBIBYTE)
    cache, compute, device = (size * _MEBIBYTE for size in (cache, compute, device))
    return Footprint(weights, int(cache), int(compute), int(device), caches)


@dataclass(frozen=True, slots=True)
class Fixed:
    """What was asked for and so is not changed to make a model fit.

    Attributes:
        context: the context.
        cells: the size of the cache.
        kv_type: its type.
        gpu_layers: the layers on a GPU.
    """

    context: bool = False
    cells: bool = False
    kv_type: bool = False
    gpu_layers: bool = False


def fit(
    plan: Plan,
    fixed: Fixed,
    measure: Callable[[Plan], Footprint],
    *,
    host_free: int | None,
    gpu_free: int,
    layers: int,
) -> tuple[Plan, Footprint, tuple[str, ...]]:
    """Make a model fit the memory that is free, step by step.

    The steps: a cache shared by fewer full conversations; a q8_0 cache, then q4_0; a smaller context; fewer layers on
    the GPU. Each is taken only where that was not asked for otherwise, and only if the ones before were not enough.

    Args:
        plan: what would be best.
        fixed: what must not be changed.
        measure: tells what a plan takes; raises BadInput for one that the model cannot have.
        host_free: bytes free on the host, or None if that is not known.
        gpu_free: bytes free on GPUs.
        layers: how many layers the model has.

    Returns:
        the plan, what it takes, and what was given up for it.

    Raises:
        OutOfMemory: it does not fit, whatever is given up.
    """
    room = _room(host_free, gpu_free)
    size = measure(plan)
    given_up: list[str] = []
    for shrink, note in _steps(fixed, layers):
        while not _fits(size, *room) and (smaller := shrink(plan)) is not None:
            try:
                size = measure(smaller)
            except BadInput as error:
                _log.debug("not possible: %s", error.message)
                break
            plan = smaller
            given_up.append(note(plan))
    if not _fits(size, *room) and not _fits(replace(size, weights=0), *room):
        where = f"{_mib(size.on_host)} of host memory" + (
            f" and {_mib(size.on_gpu)} of GPU memory" if size.on_gpu else ""
        )
        raise OutOfMemory(
            f"The model needs {where}; free are {_mib(host_free or 0)} and {_mib(gpu_free)}.",
            hint=_HINT if plan.settings.unified else _HINT_STREAMS,
        )
    for concession in given_up:
        _log.warning("to fit memory: %s", concession)
    if not _fits(size, *room):
        _log.warning("the weights do not fit memory; they will be read from the file again and again")
    return plan, size, tuple(given_up)


def fits(size: Footprint, host_free: int | None, gpu_free: int) -> bool:
    """Whether a model fits the memory that is free as it is, without anything given up."""
    return _fits(size, *_room(host_free, gpu_free))


def is_modest(size: Footprint, host_free: int | None, gpu_free: int) -> bool:
    """Whether a cache takes no more than its part of the free memory: others live there too."""
    free = gpu_free if size.on_gpu else host_free
    return free is None or size.cache <= free * _CACHE_SHARE


def modest(plan: Plan, size: Footprint, host_free: int | None, gpu_free: int) -> Plan:
    """A plan whose cache takes no more than its part of the free memory."""
    free = gpu_free if size.on_gpu else host_free
    if free is None or is_modest(size, host_free, gpu_free):
        return plan
    cells = int(plan.settings.cells * free * _CACHE_SHARE / size.cache)
    return Plan.of(plan.context, replace(plan.settings, cells=cells), plan.gpu_layers)


def round_up(cells: int) -> int:
    """The next size of a cache that llama.cpp makes."""
    return -(-cells // CELL_STEP) * CELL_STEP


_Step = tuple[Callable[[Plan], Plan | None], Callable[[Plan], str]]


def _steps(fixed: Fixed, layers: int) -> Iterator[_Step]:
    """Ways to make a plan smaller, None where it is as small as it gets; and how to call the outcome."""
    if not fixed.cells:
        yield _fewer_cells, lambda plan: f"the cache holds {plan.settings.cells} tokens, shared by all requests"
    if not fixed.kv_type:
        for better, worse in (("f16", "q8_0"), ("q8_0", "q4_0")):
            yield partial(_other_type, better, worse), lambda plan: f"the cache is stored as {plan.settings.kv_type}"
    if not fixed.context:
        yield partial(_shorter, fixed.cells), lambda plan: f"the context has {plan.context} tokens"
    if not fixed.gpu_layers and llama_cpp.llama_supports_gpu_offload():
        yield partial(_fewer_layers, layers), lambda plan: f"{plan.gpu_layers} of {layers} layers are on the GPU"


def _fewer_cells(plan: Plan) -> Plan | None:
    if plan.settings.cells <= round_up(plan.context):
        return None
    return Plan.of(plan.context, replace(plan.settings, cells=plan.settings.cells // 2), plan.gpu_layers)


def _other_type(better: str, worse: str, plan: Plan) -> Plan | None:
    if plan.settings.kv_type != better:
        return None
    return replace(plan, settings=replace(plan.settings, kv_type=worse))


def _shorter(cells_fixed: bool, plan: Plan) -> Plan | None:
    if plan.context <= _SMALLEST_CONTEXT:
        return None
    context = max(plan.context // 2, _SMALLEST_CONTEXT)
    cells = plan.settings.cells if cells_fixed else context
    return Plan.of(context, replace(plan.settings, cells=cells), plan.gpu_layers)


def _fewer_layers(layers: int, plan: Plan) -> Plan | None:
    now = layers if plan.gpu_layers < 0 else plan.gpu_layers
    return replace(plan, gpu_layers=now - max(layers // 8, 1)) if now > 0 else None


def _room(host_free: int | None, gpu_free: int) -> tuple[int | None, int]:
    return None if host_free is None else int(host_free * (1 - _RESERVE)), int(gpu_free * (1 - _RESERVE))


def _fits(size: Footprint, host_room: int | None, gpu_room: int) -> bool:
    return (host_room is None or size.on_host <= host_room) and (not size.on_gpu or size.on_gpu <= gpu_room)


def _mib(size: int) -> str:
    return f"{size / _MEBIBYTE:,.0f} MiB"
