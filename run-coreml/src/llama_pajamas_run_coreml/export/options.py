"""What whoever exports can choose. Imports no SDK."""

from dataclasses import dataclass
from typing import Final, get_args

from llama_pajamas_run_core.errors import BadInput
from llama_pajamas_run_coreml.description import Precision, Target

TARGETS: Final[tuple[Target, ...]] = get_args(Target)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
#: How weights can be stored: as they are computed with, as 8-bit integers with a scale for each channel, as places in a
#: table of 256, 64 or 16 values, or as 4-bit integers with a scale for each block of 32.
COMPRESSIONS: Final = ("none", "int8", "palette8", "palette6", "palette4", "int4")
#: Targets that have what came with iOS 18 and macOS 15: states, and scales for blocks.
_NEW: Final = ("ios18", "macos15")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        target: the oldest system that runs it, one of :data:`TARGETS`.
        precision: what it computes in, one of :data:`PRECISIONS`.
        compression: how its weights are stored, one of :data:`COMPRESSIONS`.
        batches: the numbers of images, or texts, that one prediction takes; the graph's own where it fixes one.
        ranged: whether any number between the first and the last of these is taken. Core ML prepares listed numbers
            beforehand, also for the Neural Engine, and any others only when they come.
        image_input: whether apps give an image in place of an array; there is one image in a prediction then.
        stateful: whether a decoder keeps its cache itself; None does where the target has states.
        measure: whether the export is run, here, to say what it changed.

    Raises:
        BadInput: a value is none of those, or the target lacks what is asked for.
    """

    target: Target = "macos14"
    precision: Precision = "float16"
    compression: str = "none"
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    ranged: bool = False
    image_input: bool = False
    stateful: bool | None = None
    measure: bool = True

    def __post_init__(self) -> None:
        for name, known in (("target", TARGETS), ("precision", PRECISIONS), ("compression", COMPRESSIONS)):
            if (value := getattr(self, name)) not in known:
                raise BadInput(f"{name} is one of {', '.join(known)}, not {value!r}.", param=name)
        if not self.batches or min(self.batches) < 1 or list(self.batches) != sorted(set(self.batches)):
            raise BadInput(f"batches are positive and rising, not {self.batches}.", param="batches")
        if self.compression == "int4" and not self.is_new:
            raise BadInput(
                f"int4 weights need iOS 18 or macOS 15, not {self.target}.",
                hint="Take --target ios18 or macos15, or palette4, which older systems have.",
                param="compression",
            )
        if self.stateful and not self.is_new:
            raise BadInput(
                f"States need iOS 18 or macOS 15, not {self.target}.",
                hint="Take --target ios18 or macos15.",
                param="stateful",
            )

    @property
    def is_new(self) -> bool:
        """Whether the target has what came with iOS 18 and macOS 15."""
        return self.target in _NEW

    @property
    def keeps_state(self) -> bool:
        """Whether a decoder keeps its cache itself."""
        return self.is_new if self.stateful is None else self.stateful

    @property
    def counts(self) -> tuple[int, ...]:
        """Every number of images that one prediction takes."""
        return tuple(range(self.batches[0], self.batches[-1] + 1)) if self.ranged else self.batches


def parse_batches(text: str) -> tuple[tuple[int, ...], bool]:
    """Numbers of images from the command line: "1", "1,4,16" or "1-16"; and whether they are the ends of a range.

    Raises:
        BadInput: it is none of these.
    """
    ranged = "-" in text
    try:
        numbers = tuple(int(part) for part in text.split("-" if ranged else ","))
    except ValueError:
        numbers = ()
    if not numbers or (ranged and len(numbers) != 2):
        raise BadInput(f"batches are like 1, 1,4,16 or 1-16, not {text!r}.", param="batches")
    return numbers, ranged
