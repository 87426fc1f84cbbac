"""One run of a job: its stages, how far it is, and when it stops."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..wire import FailureError, FailureKind, Progress
from .forecast import Forecast, unlearned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    OnPreview = Callable[[NDArray[np.uint8]], None]

OnProgress = Callable[[Progress], None]


@dataclass(eq=False, slots=True)
class Job:
    """One run: who to tell, when to stop, and how long each stage took.

    model_reason: why the model was taken, where the Request named none. plan_lines: what the memory plan says to the
    user, told before all else. stage_now: the stage that runs or ran last. forecast: where the run is, and how long it
    still takes. step_work: of each step of the pass that runs, as `stage_times.step_work` counts it.
    """

    on_progress: OnProgress
    on_preview: OnPreview
    is_cancelled: Callable[[], bool]
    timings: dict[str, float] = field(default_factory=dict)
    note: str = ""
    model_reason: str = ""
    plan_lines: tuple[str, ...] = ()
    stage_now: str = ""
    forecast: Forecast = field(default_factory=lambda: Forecast(unlearned()))
    step_work: float = 1.0
    _paces: list[float] = field(default_factory=list)
    _last_step: float = 0.0

    def check(self) -> None:
        """Raises `FailureError` (cancelled) when the user has asked to stop."""
        if self.is_cancelled():
            raise FailureError.of(FailureKind.CANCELLED, "The picture was cancelled.", "Press Generate to start again.")

    def tell(self, stage: str, step: int = 0, steps: int = 0) -> None:
        if stage == "denoising":
            now = time.perf_counter()
            if step > 0:
                self._paces.append((now - self._last_step) / self.step_work)
            self._last_step = now
        fraction, seconds_left = self.forecast.at(step, steps)
        note = "\n".join(filter(None, (*self.plan_lines, self.note)))
        self.on_progress(Progress(stage, step, steps, fraction, note, seconds_left))

    @property
    def step_unit(self) -> float:
        """Seconds for a unit of a step's work: the median, because the first steps are slower."""
        return statistics.median(self._paces) if self._paces else 0.0

    @contextmanager
    def stage(self, name: str, steps: int = 0) -> Iterator[None]:
        """A stage of the job: told at its start, timed, and not begun when cancelled."""
        self.check()
        self.stage_now = name
        self.forecast.begin(name)
        self.tell(name, 0, steps)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - began
