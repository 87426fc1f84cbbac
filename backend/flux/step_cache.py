"""Calls of the model that are left out, because what it would say is near to what it has said.

The cache is around the whole model, ControlNets included: what they add is in what was said, once. Caches inside the
transformer's blocks (first block cache, MagCache) add it again in each call that they shorten, since a block's
remembered change holds it already.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .samplers import Calls, Model

CALLS_MIN = 12
"""With fewer calls each goes a long way, as the few steps of a Turbo or Hyper LoRA do: none is left out."""
FIRST, LAST = 4, 2
"""Calls at the ends that are always made: the first decide what stands where, the last what is fine."""
IN_A_ROW = 3
"""Calls that may be left out one after another."""


@dataclass(eq=False, slots=True)
class StepCache:
    """threshold: how far the velocity may have moved since the last call that was made, as a share of itself.

    levels: the noise level of each call. may_leave_out: whether a call may be left out at all. regimes: what acts in
    each call; where it is not what acted in the call before, there is nothing near to go by. off: why no call may be
    left out, "" where some may. left_out: calls so far.
    """

    threshold: float
    levels: Sequence[float]
    may_leave_out: Sequence[bool]
    regimes: Sequence[Hashable]
    off: str = ""
    left_out: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, threshold: float, calls: Calls, regimes: Sequence[Hashable], is_adaptive: bool = False) -> StepCache:
        """is_adaptive: for a sampler that itself decides which of the declared calls it makes; it leaves out enough."""
        count = len(calls.steps)
        few = f"there are fewer than {CALLS_MIN}" if count < CALLS_MIN else ""
        off = "the adaptive sampler decides by itself which it makes" if is_adaptive else few
        may = [not off and FIRST <= call < count - LAST for call in range(count)]
        return cls(threshold, calls.levels.tolist(), may, regimes, off)

    @property
    def told(self) -> str:
        """How many calls of how many were left out, for the plan as it ran."""
        return f"none: {self.off}" if self.off else f"{len(self.left_out)} of {len(self.levels)} calls left out"

    def around(self, model: Model) -> Model:
        """The model, asked only where its velocity is not near to what is known.

        How fast the velocity changes on the way is taken from the last two calls that were made (as EasyCache does,
        Zhou et al. 2025). What stands in goes half as far on in their direction, over the noise level, as a straight
        line would: nearer than the line, which overshoots where the way bends, and than the last velocity as it was.
        """
        known: list[_Known] = []
        row = 0

        def asked(x: Tensor, call: int) -> Tensor:
            nonlocal row
            if row < IN_A_ROW and self.may_leave_out[call] and self._is_near(known, x, call):
                row += 1
                self.left_out.append(call)
                return self._stand_in(known, call)
            row = 0
            velocity = model(x, call)
            if known and self.regimes[known[-1].call] != self.regimes[call]:
                known.clear()
            known[:] = [*known[-1:], _Known(call, x, velocity.float())]
            return velocity

        return asked

    def _is_near(self, known: list[_Known], x: Tensor, call: int) -> bool:
        if len(known) < 2 or self.regimes[known[-1].call] != self.regimes[call]:
            return False
        before, last = known
        moved = float((last.x - before.x).norm())
        if moved == 0.0:
            return False
        rate = float((last.velocity - before.velocity).norm()) / moved
        return rate * float((x - last.x).norm()) < self.threshold * float(last.velocity.norm())

    def _stand_in(self, known: list[_Known], call: int) -> Tensor:
        before, last = known
        level_before, level_last = self.levels[before.call], self.levels[last.call]
        if level_before == level_last:
            return last.velocity
        share = (self.levels[call] - level_last) / (level_last - level_before)
        return last.velocity + 0.5 * share * (last.velocity - before.velocity)


@dataclass(frozen=True, eq=False, slots=True)
class _Known:
    """What the model said: where it was asked, and in which call."""

    call: int
    x: Tensor
    velocity: Tensor
