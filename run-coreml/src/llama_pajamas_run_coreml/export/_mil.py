"""coremltools' builder of ML Programs, quietly: the one place of the export that names its inner modules."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from llama_pajamas_run_coreml._sdk import coremltools

ct: Any = coremltools()

from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import Function, Program, Var, get_new_symbol, types  # noqa: E402
from coremltools.converters.mil.mil.passes import pass_pipeline  # noqa: E402
from coremltools.converters.mil.mil.types.symbolic import is_symbolic  # noqa: E402
from coremltools.optimize.coreml import _post_training_quantization, _quantization_passes  # noqa: E402

__all__ = ["Function", "Program", "Var", "ct", "get_new_symbol", "is_symbolic", "mb", "types"]

for module in (pass_pipeline, _post_training_quantization, _quantization_passes):
    module.tqdm = partial(module.tqdm, disable=True)  # a library draws no progress bars


def _checked_once(apply: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """A pipeline of passes that checks the program at its end, not after each of its eighty passes too: that takes as
    long as the passes do, and what is written is checked once more.
    """

    @wraps(apply)
    def run(made: Any, passes: Any) -> None:
        made.validate = lambda **_: None
        try:
            apply(made, passes)
        finally:
            del made.validate
        made.validate()

    return run


pass_pipeline.PassPipelineManager.apply_pipeline = staticmethod(
    _checked_once(pass_pipeline.PassPipelineManager.apply_pipeline)
)
