"""This machine, put together: its hardware, its runtimes, its models, and a way to open one of them.

For scripts and the command line; the server shares its models through a pool made from the same parts.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from llama_pajamas_run_core.artifacts.catalogue import Catalogue, ModelEntry
from llama_pajamas_run_core.backends.base import Backend
from llama_pajamas_run_core.backends.llm import LLMBackend
from llama_pajamas_run_core.backends.stt import STTBackend
from llama_pajamas_run_core.backends.tts import TTSBackend
from llama_pajamas_run_core.backends.vision import VisionBackend
from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_core.hardware.detect import detect
from llama_pajamas_run_core.hardware.sampler import Sampler
from llama_pajamas_run_core.pool import ModelPool, Placement, SelectionPlanner
from llama_pajamas_run_core.runtimes.discovery import installed
from llama_pajamas_run_core.runtimes.info import RuntimeState
from llama_pajamas_run_core.selection.select import Selection, check_preference, select
from llama_pajamas_run_core.types.hardware import HardwareProfile
from llama_pajamas_run_core.types.tasks import Task

#: The share of the free memory that loaded models may take together, unless said otherwise.
_MEMORY_SHARE = 0.8


class Machine:
    """Hardware, runtimes and models of this machine.

    Args:
        catalogue: the models; those of the installed packages and of the store if None.
    """

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self.catalogue = Catalogue() if catalogue is None else catalogue
        self._sampler = Sampler()

    @cached_property
    def profile(self) -> HardwareProfile:
        """What the hardware is."""
        return detect()

    @cached_property
    def runtimes(self) -> tuple[RuntimeState, ...]:
        """The runtimes, each with the packages it lacks."""
        return installed()

    @cached_property
    def placement(self) -> Placement:
        """The GPUs that models may go on, and what is free on them."""
        return Placement(self.profile.nvidia, self._sampler.read)

    def selection(self, task: Task, entry: ModelEntry | None = None, *, runtime: str | None = None) -> Selection:
        """The runtime for a task, or for a model, with the reason for every candidate.

        Args:
            task: what is to be done.
            entry: the model, or None to ask about no model in particular.
            runtime: prefer this one.

        Raises:
            BadInput: there is no such runtime.
        """
        formats = None if entry is None else sorted(entry.formats)
        return select(self.profile, task, self.runtimes, formats, runtime)

    def find(self, model: str | os.PathLike[str] | None, task: Task, ability: str | None = None) -> ModelEntry:
        """A model by its id, alias or path; None stands for the one that serves the task by default.

        Raises:
            UnknownModel: there is none of that name.
            BadInput: the model is for another task, or none serves it.
            LoadError: the file is damaged.
        """
        if model is None:
            entry = self.catalogue.default(task, ability)
            if entry is None:
                raise BadInput(
                    f"There is no model for {task.label}.",
                    hint="Name one by its path, or pull one: llama-pajamas models pull OWNER/NAME",
                )
            return entry
        path = Path(model).expanduser()
        looks_like_path = isinstance(model, os.PathLike) or os.sep in str(model) or path.suffix != ""
        entry = self.catalogue.add_path(path) if looks_like_path and path.exists() else self.catalogue.get(str(model))
        if entry.task is not task:
            raise BadInput(f"The model '{entry.id}' is for {entry.task.label}, not for {task.label}.", param="model")
        return entry

    @overload
    def open(self, task: Literal[Task.LLM], model: str | os.PathLike[str] | None = ..., **how: Any) -> LLMBackend: ...
    @overload
    def open(self, task: Literal[Task.STT], model: str | os.PathLike[str] | None = ..., **how: Any) -> STTBackend: ...
    @overload
    def open(self, task: Literal[Task.TTS], model: str | os.PathLike[str] | None = ..., **how: Any) -> TTSBackend: ...
    @overload
    def open(
        self, task: Literal[Task.VISION], model: str | os.PathLike[str] | None = ..., **how: Any
    ) -> VisionBackend: ...
    def open(
        self,
        task: Task,
        model: str | os.PathLike[str] | None = None,
        *,
        ability: str | None = None,
        runtime: str | None = None,
        **options: Any,
    ) -> Backend:
        """Load a model in the runtime that suits this machine; the caller closes it.

        Of several GPUs it takes the one with the most free memory, unless an option names one.

        Args:
            task: what it is for.
            model: its id, alias or path; the task's default model if None.
            ability: among a task's default models, one that can do this ("detect", "classify", "embed").
            runtime: prefer this runtime.
            options: load options of the runtime.

        Raises:
            UnknownModel, BadInput: as :meth:`find`.
            Unsupported: no runtime serves it here; the message gives the reasons.
            LoadError: it cannot be loaded.
            MissingDependency: the runtime's package is not installed.
        """
        entry = self.find(model, task, ability)
        plan = self._planner(entry, runtime, options)(entry)
        placed = plan.device is None or plan.device in plan.options
        return plan.load(None if placed else self.placement.choose(need=plan.memory if plan.spreads else 0))

    def pool(self, *, runtime: str | None = None, memory_budget: int | None = None, **settings: Any) -> ModelPool:
        """A pool of this machine's models, for the server.

        Args:
            runtime: prefer this runtime.
            memory_budget: bytes of the host's memory that loaded models may take; four fifths of what is free now if
                None.
            settings: further arguments of :class:`ModelPool`.

        Raises:
            BadInput: there is no such runtime.
        """
        check_preference((runtime,) if runtime else (), self.runtimes)
        if memory_budget is None:
            memory_budget = int(self.profile.processor.memory_free * _MEMORY_SHARE) or None
        planner = SelectionPlanner(self.profile, self.runtimes, prefer=(runtime,) if runtime else ())
        settings.setdefault("placement", self.placement)
        return ModelPool(self.catalogue, planner, memory_budget=memory_budget, **settings)

    def _planner(self, entry: ModelEntry, runtime: str | None, options: dict[str, Any]) -> SelectionPlanner:
        prefer = (runtime,) if runtime else ()
        return SelectionPlanner(self.profile, self.runtimes, prefer=prefer, options={entry.id: options})
