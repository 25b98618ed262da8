"""Loaded models: who may use one, when one is loaded, and which one goes when memory is short.

:class:`ModelPool` is the door; ``residents`` moves models into memory and out of it. ``plan`` says how a model would be
loaded, ``placement`` on which GPU and ``admission`` what has to happen before; ``slot`` holds the state of one loaded
model and its queue, ``status`` is what the outside sees.
"""

from llama_pajamas_run_core.pool.placement import Placement
from llama_pajamas_run_core.pool.plan import Plan, Planner, SelectionPlanner
from llama_pajamas_run_core.pool.pool import ModelPool
from llama_pajamas_run_core.pool.slot import FailedLoad, State
from llama_pajamas_run_core.pool.status import ModelStatus

__all__ = ["FailedLoad", "ModelPool", "ModelStatus", "Placement", "Plan", "Planner", "SelectionPlanner", "State"]
