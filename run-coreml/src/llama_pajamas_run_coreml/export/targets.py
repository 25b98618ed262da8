"""coremltools' names for what the options choose."""

from typing import Any, Final

from llama_pajamas_run_coreml.export._mil import ct

_TARGETS: Final = {
    "ios17": ct.target.iOS17, "ios18": ct.target.iOS18, "macos14": ct.target.macOS14, "macos15": ct.target.macOS15,
}  # fmt: skip
_PRECISIONS: Final = {"float16": ct.precision.FLOAT16, "float32": ct.precision.FLOAT32}


def opset(target: str) -> Any:
    """Coremltools' deployment target, which is also the version of its operators."""
    return _TARGETS[target]


def precision_of(name: str) -> Any:
    """Coremltools' precision."""
    return _PRECISIONS[name]
