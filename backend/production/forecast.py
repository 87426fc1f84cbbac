"""How far a run is, and how long it still takes: arithmetic over what its stages are expected to take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SHARES = {
    "loading": 0.10,
    "text": 0.03,
    "control": 0.05,
    "denoising": 0.74,
    "decoding": 0.06,
    "enhancing": 0.30,
    "saving": 0.01,
}
"""Beside each other, where nothing is known of this machine."""
TOLD_MAX = 0.99
"""What is left to 1 is never told: 1 is the Result itself."""
PRIOR_STEPS = 2
"""How many steps what was learned counts for beside the steps of this run: the first ones are slower than the rest."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One stage of a run. seconds: what it is expected to take, None where nothing was learned of it.

    share: of the work of all stages of this name, for a run that goes through them several times; above 1 for a stage
    that is known to take more than its name says.
    """

    stage: str
    seconds: float | None = None
    share: float = 1.0


def unlearned() -> list[Expected]:
    """The stages of a run of one pass, of which nothing is known."""
    return [Expected(stage) for stage in SHARES if stage != "enhancing"]


class Forecast:
    """Follows one run through its stages, in the order in which they were expected."""

    def __init__(self, expected: Sequence[Expected], clock: Callable[[], float] = time.perf_counter) -> None:
        self._expected = list(expected)
        self._clock = clock
        shares = [SHARES[one.stage] * one.share for one in self._expected]
        seconds = [one.seconds for one in self._expected if one.seconds is not None]
        is_learned = len(seconds) == len(shares) and sum(seconds) > 0.0
        self._shares = shares
        self._weights = seconds if is_learned else shares
        self._now = -1
        self._began = clock()
        self._fraction = 0.0
        self._share_seconds: float | None = None
        """What a share of 1 takes, by the painting of a run of which nothing was learned."""

    def begin(self, stage: str) -> None:
        """The next stage of this name begins; one that comes unexpectedly again counts as the one that runs."""
        self._began = self._clock()
        later = range(self._now + 1, len(self._expected))
        self._now = next((index for index in later if self._expected[index].stage == stage), self._now)

    def at(self, step: int, steps: int) -> tuple[float, float | None]:
        """At `step` of `steps` of the stage that runs: the fraction, which never falls, and the seconds left.

        None: too little is known to tell.
        """
        within = step / steps if steps else 0.0
        done = sum(self._weights[: max(0, self._now)])
        if self._now >= 0:
            done += self._weights[self._now] * min(1.0, within)
        self._fraction = max(self._fraction, TOLD_MAX * done / sum(self._weights))
        return self._fraction, self._seconds_left(step, steps)

    def _seconds_left(self, step: int, steps: int) -> float | None:
        if self._now < 0:
            return None
        elapsed, expected = self._clock() - self._began, self._seconds(self._now)
        if expected is None and steps and step:
            expected = elapsed / step * steps
            if self._expected[self._now].stage == "denoising":
                self._share_seconds = expected / self._shares[self._now]
        if expected is None:
            return None
        left = max(0.0, expected - elapsed)
        if steps:
            left = (elapsed + PRIOR_STEPS * expected / steps) / (step + PRIOR_STEPS) * (steps - step)
        later = [self._seconds(index) for index in range(self._now + 1, len(self._expected))]
        known = [seconds for seconds in later if seconds is not None]
        return left + sum(known) if len(known) == len(later) else None

    def _seconds(self, index: int) -> float | None:
        """What a stage takes: as it was learned, else in proportion to the painting of this run, once that runs."""
        learned = self._expected[index].seconds
        if learned is None and self._share_seconds is not None and index >= self._now:
            # Not of the painting itself, whose pace is measured anew in each pass.
            is_painting = self._expected[index].stage == "denoising" and index == self._now
            return None if is_painting else self._share_seconds * self._shares[index]
        return learned
