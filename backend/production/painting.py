"""A picture on its way through the engine: its passes, and the stages of each."""

from __future__ import annotations

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

    from ..flux.model import FluxModel
    from ..flux.picture_job import PictureJob
    from ..flux.text import Prompts


def paint(
    order: Order,
    maps: ControlMaps,
    pictures: dict[str, NDArray[np.uint8]],
    model: FluxModel,
    words: Prompts,
    job: Job,
) -> NDArray[Any]:
    """(height, width, 3) uint8 or uint16: what the last pass has made.

    pictures: the controls', of the Request's size. words: what is read in the place of the Request's own.
    """
    from ..flux.picture_job import PictureJob

    pixels: NDArray[Any] | None = None
    for one in order.passes:
        job.step_work = step_work(one.request)
        is_whole = one.size == (order.request.width, order.request.height)
        drawn = pictures if is_whole else control_pictures(order.choices, maps_at(maps, one.size), one.size)
        inputs = control_inputs(one.request, order.choices, drawn)
        pixels = _make(PictureJob(model, one.request, inputs, words), job, pass_sources(one, maps, pixels))
    assert pixels is not None  # there is always a pass
    return pixels


def _make(picture_job: PictureJob, job: Job, maps: ControlMaps) -> NDArray[Any]:
    """Takes a picture through the stages of the engine, telling and asking in between."""
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
            job.tell("denoising", step + 1, steps)
            job.on_preview(picture_job.preview(tokens))
            job.check()

        picture_job.denoise(on_step)
    with job.stage("decoding"):
        return picture_job.decode()
