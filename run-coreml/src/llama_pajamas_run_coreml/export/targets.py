"""Systems that packages are made for."""

from typing import Any, Final, get_args

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_coreml.description import Target
from llama_pajamas_run_coreml.export._mil import ct

#: The targets' names.
NAMES: Final[tuple[Target, ...]] = get_args(Target)
_TARGETS: Final = {
    "ios17": ct.target.iOS17, "ios18": ct.target.iOS18, "macos14": ct.target.macOS14, "macos15": ct.target.macOS15,
}  # fmt: skip


def opset(target: str) -> Any:
    """Coremltools' deployment target.

    Raises:
        BadInput: there is none of that name.
    """
    if target not in _TARGETS:
        raise BadInput(f"target is one of {', '.join(NAMES)}, not {target!r}.", param="target")
    return _TARGETS[target]


def is_new(target: str) -> bool:
    """Whether a target has what came with iOS 18 and macOS 15: states, and weights in blocks."""
    return bool(opset(target) >= ct.target.iOS18)
