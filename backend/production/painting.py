"""A picture on its way through the engine: its passes, and the stages of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..wire import ControlMaps
from .inputs import control_inputs, control_pictures, pass_sources
from .job import Job
from .keeping import Order
from .passes import maps_at
from .stage_times import step_work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ..flux.journal import Journal
    from ..flux.model import FluxModel
    from ..flux.picture_job import PictureJob
    from ..flux.text import Prompts


@dataclass(eq=False, slots=True)
class SoFar:
    """What of a picture is done, in main memory, so that another attempt at it goes on from there.

    passes: how many are finished. pixels: what the last of them made. journal: of the pass that runs. tokens: what it
    has painted, once that is finished. steps: that it has painted.
    """

    passes: int = 0
    pixels: NDArray[Any] | None = None
    journal: Journal | None = None
    tokens: Tensor | None = None
    steps: int = 0

    def finish_pass(self, pixels: NDArray[Any]) -> None:
        self.passes, self.pixels = self.passes + 1, pixels
        self.journal, self.tokens, self.steps = None, None, 0


def paint(
    order: Order,
    maps: ControlMaps,
    pictures: dict[str, NDArray[np.uint8]],
    model: FluxModel,
    words: Prompts,
    job: Job,
    so_far: SoFar,
) -> NDArray[Any]:
    """(height, width, 3) uint8 or uint16: what the last pass has made.

    pictures: the controls', of the Request's size. words: what is read in the place of the Request's own. so_far: what
    an attempt before this one finished; written to as this one goes on.
    """
    from ..flux.device import without_gradients
    from ..flux.journal import Journal
    from ..flux.picture_job import PictureJob

    if not so_far.passes:
        model.left_out.clear()
    for one in order.passes[so_far.passes :]:
        job.step_work = step_work(one.request)
        is_whole = one.size == (order.request.width, order.request.height)
        drawn = pictures if is_whole else control_pictures(order.choices, maps_at(maps, one.size), one.size)
        inputs = control_inputs(one.request, order.choices, drawn)
        so_far.journal = so_far.journal or Journal()
        with without_gradients():
            picture_job = PictureJob(model, one.request, inputs, words, so_far.journal, one.origin)
            so_far.finish_pass(_make(picture_job, job, pass_sources(one, maps, so_far.pixels), so_far))
    assert so_far.pixels is not None  # there is always a pass
    return so_far.pixels


def _make(picture_job: PictureJob, job: Job, maps: ControlMaps, so_far: SoFar) -> NDArray[Any]:
    """Takes a picture through the stages of the engine, telling and asking in between."""
    if so_far.tokens is None:
        _denoise(picture_job, job, maps, so_far)
    else:
        picture_job.tokens = so_far.tokens.to(picture_job.model.device)
        if maps.image is not None:
            with job.stage("control"):
                picture_job.read_source(maps.image, maps.mask)
    with job.stage("decoding"):
        return picture_job.decode()


def _denoise(picture_job: PictureJob, job: Job, maps: ControlMaps, so_far: SoFar) -> None:
    """All stages to the last step."""
    steps, controls = picture_job.steps, picture_job.controls
    with job.stage("text"):
        for prompt in picture_job.model.prompts_ahead:
            job.check()
            picture_job.model.encode_prompt(prompt)
        picture_job.read_text()
    with job.stage("control", len(controls)):
        if maps.reference is not None and picture_job.request.reference_strength > 0.0:
            picture_job.read_reference(maps.reference)
        if maps.image is not None:
            picture_job.read_source(maps.image, maps.mask)
        for index, control in enumerate(controls):
            job.check()
            picture_job.read_control(control, job.check)
            job.tell("control", index + 1, len(controls))
    with job.stage("denoising", steps):

        def on_step(step: int, tokens: Any) -> None:
            so_far.steps = step + 1
            job.tell("denoising", step + 1, steps)
            job.on_preview(picture_job.preview(tokens))
            job.check()

        picture_job.denoise(on_step)
    so_far.tokens = picture_job.tokens.cpu()
