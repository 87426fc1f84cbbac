"""An Order painted by the model that is kept, a rung further down the memory plan each time that memory ran out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..failures import failure_of
from ..planning import MemoryPlan, step_down
from ..wire import ControlMaps, FailureKind
from .job import Job
from .keeping import Order
from .model_keeper import ModelKeeper, release_memory
from .painting import SoFar, paint
from .planned import TooLarge, stepped_note
from .prompting import engine_prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..prompts import FinalPrompt
    from .prompting import Text

log = logging.getLogger("grisaille.production")


class Painter:
    """keeper: of the model. too_large: the plans that ran out of memory in this process.

    said: what the model that painted last says of how it did, for the Result's plan.
    """

    def __init__(self, keeper: ModelKeeper) -> None:
        self._keeper = keeper
        self.too_large = TooLarge()
        self.said: dict[str, Any] = {}

    def painted(
        self,
        order: Order,
        maps: ControlMaps,
        pictures: dict[str, NDArray[np.uint8]],
        prompt: FinalPrompt,
        job: Job,
        ahead: Sequence[Text] = (),
        controls: int = 0,
    ) -> tuple[Order, NDArray[Any]]:
        """The picture, and the order as it ran. What was finished by the time memory ran out is not done again.

        ahead, controls: of the next pictures; see `ModelKeeper.ready`. Raises what the last rung raised.
        """
        so_far = SoFar()
        self._keeper.begin()
        while True:
            try:
                model = self._keeper.ready(order, ahead, controls, job)
                pixels = paint(order, maps, pictures, model, engine_prompts(prompt), job, so_far)
                self.said = model.plan()
                return order, pixels
            except BaseException as error:
                below = self._rung_below(order, error, job.stage_now)
                if below is None:
                    raise
            # Out here, where the error no longer holds what was on the device.
            job.note = " ".join(filter(None, (job.note, stepped_note(order.memory, below, so_far.steps))))
            log.warning("%s %s", order.folder.name, job.note)
            order, job.plan_lines = order.placed(below), below.lines
            release_memory()

    def _rung_below(self, order: Order, error: BaseException, stage: str) -> MemoryPlan | None:
        """The plan to go on with after an error; None where it was not the device's memory, or there is none."""
        is_of_host = isinstance(error, MemoryError) and order.memory.machine.has_own_memory
        if is_of_host or failure_of(error).kind != FailureKind.OUT_OF_MEMORY:
            return None
        self.too_large.remember(order.memory, stage)
        return step_down(order.memory, stage)
