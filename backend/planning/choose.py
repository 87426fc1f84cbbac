"""Which of the models that are there paints a Request that names none: the one whose plan is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..models import ModelFolder, check_family, choose_nets
from ..models.sizes import ModelSizes
from ..wire import Failure, FailureError, FailureKind, GenerationRequest
from .machine import GB, Machine
from .memory_plan import MemoryPlan, make_plan
from .work import Work

PREFERRED = {
    "text_to_image": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell", "kontext-dev"),
    "image_to_image": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell"),
    "inpaint": ("fill-dev", "dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell"),
    "edit": ("kontext-dev",),
    "enhance": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell"),
    "show_prompt": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell", "kontext-dev", "fill-dev"),
    "show_controls": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell", "kontext-dev", "fill-dev"),
}
"""A task's families, the best first. One that takes a map as its own input can be asked only where that map is on."""
WHOLE_BYTES = 3_000_000_000
"""A transformer of FLUX.1's 12 thousand million weights takes more, however it is packed; a smaller one is a toy."""
STREAMED_BITS = 5.0
"""A weight, at the most, where weights are streamed: with more, the card waits for them in each step."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model, and why it was taken: a sentence for the plan."""

    folder: ModelFolder
    reason: str


@dataclass(frozen=True, slots=True)
class _Able:
    folder: ModelFolder
    sizes: ModelSizes
    own_nets: int
    plan: MemoryPlan


def choose_model(
    request: GenerationRequest, models: Sequence[tuple[ModelFolder, ModelSizes]], machine: Machine
) -> ModelChoice:
    """The best model for a Request. Pure, but for what `check_family` reads of a transformer's config.json.

    Each that can do the Request is planned for. One that fits comes before one that does not; then FLUX.1's full size
    before a toy; then one with nets of its own for the Request's controls; then by PREFERRED; then one that stays on
    the device before one that is streamed, and of those that are streamed one in few bits; then the most bytes, which
    are the least quantised (or the fewest, of those that are streamed in too many). Where none fits, the one that takes
    least.

    Raises `FailureError`: model_missing where there are no models, else the first model's reason why it cannot.
    """
    able, refusals = [], []
    for folder, sizes in models:
        try:
            able.append(_able(request, folder, sizes, machine))
        except FailureError as error:
            refusals.append(error.failure)
    if not able:
        raise FailureError(_none_can(refusals))
    if len(able) == 1:
        return ModelChoice(able[0].folder, "the only one here that can do this")
    fitting = [one for one in able if one.plan.fits and one.plan.fits_host]
    if not fitting:
        smallest = min(able, key=lambda one: (one.plan.most, one.plan.host_bytes, one.folder.name))
        reason = f"the smallest of {len(able)} that can: none fits {_free(machine)}"
        return ModelChoice(smallest.folder, reason)
    best = min(fitting, key=lambda one: _rank(request.task, one))
    return ModelChoice(best.folder, _reason(best, able, fitting, machine))


def _able(request: GenerationRequest, folder: ModelFolder, sizes: ModelSizes, machine: Machine) -> _Able:
    check_family(request, folder)
    kinds = [control.kind for control in request.controls]
    choices = choose_nets(kinds, folder.controlnets, folder.name, folder.joined)
    own = sum(choice.drawn_as == choice.kind for choice in choices)
    return _Able(folder, sizes, own, make_plan(machine, folder, sizes, Work.of(request, folder, choices)))


def _rank(task: str, one: _Able) -> tuple[bool, int, int, bool, bool, int, str]:
    order = PREFERRED[task]
    place = order.index(one.folder.variant) if one.folder.variant in order else len(order)
    is_streamed = one.plan.placement.transformer == "streamed"
    is_slow = is_streamed and _bits(one.sizes) > STREAMED_BITS
    return (
        one.sizes.transformer < WHOLE_BYTES,
        -one.own_nets,
        place,
        is_streamed,
        is_slow,
        one.sizes.transformer if is_slow else -one.sizes.transformer,
        one.folder.name,
    )


def _bits(sizes: ModelSizes) -> float:
    """A weight, on the mean."""
    return 8 * sizes.transformer / sizes.shape.weights if sizes.shape is not None else 0.0


def _reason(best: _Able, able: list[_Able], fitting: list[_Able], machine: Machine) -> str:
    room = f"of {_free(machine)}" if machine.free else f"on {machine.kind}"
    return f"the best of {len(fitting)} that fit, out of {len(able)}: {best.plan.most / GB:.1f} GB {room}"


def _free(machine: Machine) -> str:
    return f"{machine.free / GB:.1f} GB that are free on {machine.kind}"


def _none_can(refusals: list[Failure]) -> Failure:
    if refusals:
        return refusals[0]
    return Failure(FailureKind.MODEL_MISSING, "There is no model yet.", "Choose the folder that holds your models.")
