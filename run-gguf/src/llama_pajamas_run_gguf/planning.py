"""How a model is loaded: its context, its KV cache and its layers, from what was asked for and what memory is free."""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import llama_cpp

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_gguf import devices, memory
from llama_pajamas_run_gguf._session import MAX_SEQUENCES, ContextSettings, check_file
from llama_pajamas_run_gguf.engine.speculation import MAX_DRAFT
from llama_pajamas_run_gguf.memory import Fixed, Footprint, Plan, Rehearsal
from llama_pajamas_run_gguf.options import LoadOptions
from llama_pajamas_run_gguf.threads import default_threads

_DEFAULT_CONTEXT = 8192
_DEFAULT_LANES = 8
_DEFAULT_BATCH = 512


@dataclass(frozen=True, slots=True)
class Planned:
    """How a model is loaded so that it fits.

    Attributes:
        lanes: how many requests are worked on at once.
        plan: the rest.
        footprint: what it takes.
        given_up: what was given up for it, in words.
    """

    lanes: int
    plan: Plan
    footprint: Footprint
    given_up: tuple[str, ...] = ()


def plan_memory(path: Path, asked: LoadOptions, gpu: devices.GPU | None) -> Planned:
    """How to load a model so that it fits.

    Args:
        path: the GGUF file.
        asked: what it was told.
        gpu: the one GPU that it is for; None for all.

    Raises:
        LoadError: a file cannot be loaded.
        OutOfMemory: it does not fit, whatever is given up.
        BadInput: what was asked for is not possible with this model.
    """
    with Rehearsal(path, gpu) as rehearsal:
        planner = _Planner(rehearsal, asked, gpu)
        return planner.in_streams() or planner.unified()


class _Planner:
    def __init__(self, rehearsal: Rehearsal, asked: LoadOptions, gpu: devices.GPU | None) -> None:
        self._rehearsal, self._asked = rehearsal, asked
        self._gpu_layers = -1 if asked.n_gpu_layers is None else asked.n_gpu_layers
        self._session = rehearsal.session(self._gpu_layers)
        self._context = asked.n_ctx or min(self._session.trained_context, _DEFAULT_CONTEXT)
        self._lanes = min(asked.n_lanes or _DEFAULT_LANES, MAX_SEQUENCES)
        beside = sum(_size(file) for file in (asked.projector, asked.draft_model) if file is not None)
        host = devices.host_memory_free()
        self._host = None if host is None else max(host - beside, 0)
        self._gpu = devices.gpu_memory_free(gpu)
        self._fixed = Fixed(
            context=asked.n_ctx is not None,
            cells=asked.kv_cells is not None,
            kv_type=asked.kv_type is not None,
            gpu_layers=asked.n_gpu_layers is not None,
        )

    def unified(self) -> Planned:
        """With one pool of cells for all."""
        # Idle sequences keep the beginnings of conversations; without rewinding, one for each lane is of use.
        sequences = min(2 * self._lanes if self._session.rewinds else self._lanes, MAX_SEQUENCES)
        plan = self._plan(self._asked.kv_cells or self._context * self._lanes, sequences, unified=True)
        if self._asked.kv_cells is None:
            plan = memory.modest(plan, self._rehearsal.measure(plan), self._host, self._gpu)
        return self._fit(plan, self._fixed)

    def in_streams(self) -> Planned | None:
        """With a stream of cells for each lane; None where one pool is better or was asked for.

        Raises:
            BadInput: streams were asked for and are not possible.
            OutOfMemory: they were asked for and do not fit.
        """
        forced = self._asked.kv_unified is False
        if self._asked.kv_unified or not self._session.generates or not (forced or self._pays):
            return None
        objection = self._objection()
        if objection is None:
            plan = self._plan(self._lanes * memory.round_up(self._context), self._lanes, unified=False)
            size = self._rehearsal.measure(plan)
            objection = None if size.caches == 1 else "the model's context has caches of several kinds"
        if objection is not None:
            if not forced:
                return None
            raise BadInput(
                f"kv_unified=False is not possible here: {objection}.",
                hint="Leave kv_unified out, or choose kv_unified=True.",
                param="kv_unified",
            )
        if forced:
            return self._fit(plan, replace(self._fixed, context=True, cells=True))
        modest = self._asked.kv_cells is not None or memory.is_modest(size, self._host, self._gpu)
        fits = modest and memory.fits(size, self._host, self._gpu)
        return Planned(self._lanes, plan, size) if fits else None

    @property
    def _pays(self) -> bool:
        """Whether streams are known to be faster: on a GPU they were not measured."""
        return self._lanes > 1 and not (llama_cpp.llama_supports_gpu_offload() and self._gpu_layers)

    def _objection(self) -> str | None:
        """What is in the way of streams: they are for plain caches, which alone can be cut and carried over."""
        if not self._session.rewinds:
            return "the model keeps a recurrent state"
        if llama_cpp.llama_model_has_encoder(self._session.model):
            return "the model has an encoder"  # T5's distances are computed for one stream alone, or the process ends
        if llama_cpp.llama_model_n_swa(self._session.model):
            return "the model attends through a sliding window"
        cells = self._asked.kv_cells
        if cells is not None and cells < self._lanes * self._context:
            return (
                f"kv_cells={cells} is less than the context of {self._context} tokens"
                f" for each of {self._lanes} requests, {self._lanes * self._context}"
            )
        return None

    def _plan(self, cells: int, sequences: int, *, unified: bool) -> Plan:
        asked = self._asked
        cells = max(memory.round_up(cells), memory.round_up(self._context))
        batch = min(max(asked.n_batch or _DEFAULT_BATCH, sequences), cells)
        settings = ContextSettings(
            cells=cells,
            sequences=sequences,
            batch=batch,
            threads=asked.n_threads or default_threads(llama_cpp.llama_model_size(self._session.model)),
            kv_type=asked.kv_type or "f16",
            flash=asked.flash_attention,
            outputs=min(sequences + (self._lanes * MAX_DRAFT if asked.guesses else 0), batch),
            unified=unified,
        )
        return Plan.of(self._context, settings, self._gpu_layers)

    def _fit(self, plan: Plan, fixed: Fixed) -> Planned:
        layers = llama_cpp.llama_model_n_layer(self._session.model)
        plan, size, given_up = memory.fit(
            plan, fixed, self._rehearsal.measure, host_free=self._host, gpu_free=self._gpu, layers=layers
        )
        return Planned(self._lanes, plan, size, given_up)


def _size(file: str | PathLike[str]) -> int:
    path = Path(file).expanduser()
    check_file(path)
    return path.stat().st_size
