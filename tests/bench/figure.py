"""What a benchmark hands back: one ratio with the target it is judged against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    ``ratio`` is dimensionless (a time or a size divided by a named reference, measured in the same run), and is good
    when it is at most ``target``. ``target`` None means that the figure is only reported. ``detail`` says in words
    what was divided by what, with the absolute numbers.
    """

    name: str
    ratio: float
    target: float | None
    detail: str

    @property
    def is_met(self) -> bool:
        """Whether the figure meets its target; a figure without a target always does."""
        return self.target is None or self.ratio <= self.target
