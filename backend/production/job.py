"""One run of a job: its stages, how far it is, and when it stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..wire import FailureError, FailureKind, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    OnPreview = Callable[[NDArray[np.uint8]], None]

OnProgress = Callable[[Progress], None]

STAGE_STARTS = {
    "loading": 0.0,
    "text": 0.10,
    "control": 0.13,
    "denoising": 0.18,
    "decoding": 0.92,
    "saving": 0.98,
}
"""The fraction at which each stage begins. The rest of the last stage is never told: 1 is the Result itself."""
STAGE_ENDS = dict(zip(STAGE_STARTS, [*list(STAGE_STARTS.values())[1:], 0.99], strict=True))
PASS_STARTS, PASS_ENDS = STAGE_STARTS["text"], STAGE_STARTS["saving"]
"""What a Request with several passes over the picture goes through as often."""


@dataclass(eq=False, slots=True)
class Job:
    """One run: who to tell, when to stop, and how long each stage took."""

    on_progress: OnProgress
    on_preview: OnPreview
    is_cancelled: Callable[[], bool]
    timings: dict[str, float] = field(default_factory=dict)
    note: str = ""
    model_reason: str = ""
    """Why the model was taken, where the Request named none."""
    done: float = 0.0
    share: float = 1.0
    """Of all passes over the picture: how much of them is behind, and how much of them is the one that runs."""

    def check(self) -> None:
        """Raises `FailureError` (cancelled) when the user has asked to stop."""
        if self.is_cancelled():
            raise FailureError.of(FailureKind.CANCELLED, "The picture was cancelled.", "Press Generate to start again.")

    def tell(self, stage: str, step: int = 0, steps: int = 0) -> None:
        start, end = STAGE_STARTS[stage], STAGE_ENDS[stage]
        fraction = start + (end - start) * step / max(1, steps)
        if PASS_STARTS <= fraction < PASS_ENDS:
            within = (fraction - PASS_STARTS) / (PASS_ENDS - PASS_STARTS)
            fraction = PASS_STARTS + (PASS_ENDS - PASS_STARTS) * (self.done + self.share * within)
        self.on_progress(Progress(stage, step, steps, fraction, self.note))

    @contextmanager
    def stage(self, name: str, steps: int = 0) -> Iterator[None]:
        """A stage of the job: told at its start, timed, and not begun when cancelled."""
        self.check()
        self.tell(name, 0, steps)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - began
