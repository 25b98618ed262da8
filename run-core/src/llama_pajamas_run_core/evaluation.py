"""What an evaluation reports: one row per figure, with the floor it has to reach."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    Attributes:
        model: the model's id.
        what: what was measured, on what data.
        value: the figure: a share (0 to 1), or in ``unit``; None where it could not be measured here.
        floor: what it has to reach, or None where there is no floor.
        cases: how many held-out cases it was measured on.
        seconds: how long that took.
        better: whether more or less is better.
        unit: "%" shows the value as a percentage; anything else is written behind it.
        subject: the runtime and precision, in evaluations that compare several.
        note: what there is to say about the figure, or why there is none.
    """

    model: str
    what: str
    value: float | None
    floor: float | None
    cases: int
    seconds: float
    better: Literal["higher", "lower"] = "higher"
    unit: str = "%"
    subject: str = ""
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether the value is at least as good as the floor; where there is no value, nothing is missed."""
        if self.floor is None or self.value is None:
            return True
        return self.value >= self.floor if self.better == "higher" else self.value <= self.floor

    @property
    def shown(self) -> str:
        """The value for people."""
        return "not run" if self.value is None else _show(self.value, self.unit)

    @property
    def floor_shown(self) -> str:
        """The floor for people, with its direction."""
        if self.floor is None:
            return ""
        return ("at least " if self.better == "higher" else "at most ") + _show(self.floor, self.unit)


def _show(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "%" else f"{value:.3g} {unit}".rstrip()
