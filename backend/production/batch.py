"""Several pictures in one go: one after another, each the same as if it were the only one, the work they share once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..wire import ControlMaps, Failure, FailureError, FailureKind, GenerationRequest, GenerationResult, Progress
from ..wire.request import PICTURELESS
from .job import OnProgress

if TYPE_CHECKING:
    from .production import Production


def paint_batch(
    production: Production,
    requests: Sequence[GenerationRequest],
    maps_of: Callable[[int], ControlMaps],
    on_progress: OnProgress,
    is_cancelled: Callable[[], bool],
) -> Iterator[GenerationResult | Failure]:
    """The Results in the order of the Requests, each as soon as it is there; a Failure in the place of what failed.

    The prompts of all are read before the first is painted, and kept as their controls are. maps_of: the maps of the
    Request at this place, asked for when its turn comes; may raise `FailureError`. on_progress: called with the
    fraction of all pictures. Once cancelled, all that are left are Failures of that kind.
    """
    whole = _Whole(len(requests), on_progress)
    production.expect([request for request in requests if _is_sound(request)])
    try:
        for index, request in enumerate(requests):
            whole.begin(index)
            yield _painted(production, request, maps_of, index, whole, is_cancelled)
            whole.end()
    finally:
        production.expect([])


def _painted(
    production: Production,
    request: GenerationRequest,
    maps_of: Callable[[int], ControlMaps],
    index: int,
    whole: _Whole,
    is_cancelled: Callable[[], bool],
) -> GenerationResult | Failure:
    if is_cancelled():
        return Failure(FailureKind.CANCELLED, "The batch was cancelled.", "Start it again to go on.")
    try:
        maps = maps_of(index)
    except FailureError as error:
        return error.failure
    return production.run(
        request, maps, on_progress=whole.tell, on_preview=lambda picture: None, is_cancelled=is_cancelled
    )


def _is_sound(request: GenerationRequest) -> bool:
    try:
        request.check()
    except FailureError:
        return False
    return request.task not in PICTURELESS


class _Whole:
    """A batch's progress: that of the picture that runs, and of all."""

    def __init__(self, count: int, on_progress: OnProgress, clock: Callable[[], float] = time.perf_counter) -> None:
        self._count = count
        self._on_progress = on_progress
        self._clock = clock
        self._index = 0
        self._began = clock()
        self._took: list[float] = []

    def begin(self, index: int) -> None:
        self._index, self._began = index, self._clock()

    def end(self) -> None:
        self._took.append(self._clock() - self._began)

    def tell(self, progress: Progress) -> None:
        note = f"Picture {self._index + 1} of {self._count}. {progress.note}".strip()
        fraction = (self._index + progress.fraction) / self._count
        self._on_progress(replace(progress, fraction=fraction, note=note, seconds_left=self._left(progress)))

    def _left(self, progress: Progress) -> float | None:
        if progress.seconds_left is None:
            return None
        whole = (self._clock() - self._began) + progress.seconds_left
        each = sum(self._took) / len(self._took) if self._took else whole
        return progress.seconds_left + each * (self._count - self._index - 1)
