"""What an export made and what it cost."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Change:
    """How far the answers moved from those of the model in float32, not compressed.

    Attributes:
        places: answers that were compared.
        agreement: share of them with the same likeliest class, object or token; None for vectors.
        cosine: mean cosine of the outputs.
        what: what an answer is ("images", "tokens").
    """

    places: int
    agreement: float | None
    cosine: float
    what: str

    def __str__(self) -> str:
        same = "" if self.agreement is None else f"the same at {self.agreement:.1%} of {self.places} {self.what}, "
        return f"{same}cosine {self.cosine:.5f}"


@dataclass(frozen=True, slots=True)
class Made:
    """One package.

    Attributes:
        path: where it is.
        plain_bytes: its size in the same precision, not compressed.
        bytes: its size.
        change: what it costs; None where that was not measured.
    """

    path: Path
    plain_bytes: int
    bytes: int
    change: Change | None = None

    def __str__(self) -> str:
        size = f"{self.bytes / 1e6:.2f} MB"
        if self.plain_bytes != self.bytes:
            size = f"{self.plain_bytes / 1e6:.2f} -> {size} ({self.bytes / self.plain_bytes:.0%})"
        return f"{self.path}: {size}" + ("" if self.change is None else f"; {self.change}")
