"""What the engine takes of a Request's maps: the controls' pictures, and the pictures to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..models import ControlChoice
from ..wire import ControlMaps, FailureError, FailureKind, GenerationRequest
from ..wire.request import SOURCES_OF, sources_of
from .passes import Pass, next_image, resized, resized_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..flux.picture_job import ControlInput

SOURCE_WORDS = {
    "image": "a picture to start from",
    "mask": "a mask of what may change",
    "reference": "a reference picture",
}
SOURCE_HINTS = dict.fromkeys(SOURCE_WORDS, "Choose one, or paint from noise.") | {
    "reference": "Choose one, or set the reference's strength to 0."
}


def check_source(request: GenerationRequest, maps: ControlMaps) -> None:
    for name in sources_of(request):
        if getattr(maps, name) is None:
            raise FailureError.of(
                FailureKind.BAD_REQUEST, f"The task {request.task} lacks {SOURCE_WORDS[name]}.", SOURCE_HINTS[name]
            )


def pass_sources(one: Pass, maps: ControlMaps, so_far: NDArray[np.uint8] | None) -> ControlMaps:
    """The pictures that a pass starts from, of its size, and the reference."""
    names = SOURCES_OF.get(one.request.task, ())
    mask = resized_mask(maps.mask, one.size) if "mask" in names and maps.mask is not None else None
    image = None
    if "image" in names and so_far is not None:
        image = next_image(so_far, one.size, maps.image, mask)
    elif "image" in names and maps.image is not None:
        image = resized(maps.image, one.size)
    return ControlMaps(image=image, mask=mask, reference=maps.reference)


def maps_used(request: GenerationRequest, choices: list[ControlChoice], maps: ControlMaps) -> list[str]:
    """The maps that the controls' pictures are made of, and what the picture starts from."""
    used = {name for choice in choices if (name := maps.for_control(choice.drawn_as)) is not None}
    return [*used, *sources_of(request)]


def plan_of(choices: list[ControlChoice], note: str, model_reason: str = "") -> dict[str, Any]:
    """What was decided about the controls, and about the model where the Request named none."""
    nets = {
        choice.kind: f"{choice.net.folder.name}: {choice.drawn_as} {choice.net.weights}".rstrip()
        for choice in choices
        if choice.net
    }
    said = {"controls": nets, "note": note, "model_choice": model_reason}
    return {name: value for name, value in said.items() if value}


def control_pictures(
    choices: list[ControlChoice], maps: ControlMaps, size: tuple[int, int]
) -> dict[str, NDArray[np.uint8]]:
    """The pictures for the request's controls, by kind, before anything is loaded."""
    from ..flux.control_pictures import control_picture

    return {choice.kind: control_picture(maps, choice.drawn_as, choice.how.picture, size) for choice in choices}


def control_inputs(
    request: GenerationRequest, choices: list[ControlChoice], pictures: dict[str, NDArray[np.uint8]]
) -> list[ControlInput]:
    """The controls that have a weight at all, as the engine takes them."""
    from ..flux.picture_job import ControlInput

    by_kind = {choice.kind: choice for choice in choices}
    inputs = []
    for control in request.controls:
        net, how, picture = by_kind[control.kind].net, by_kind[control.kind].how, pictures[control.kind]
        window = control.strength, control.start, control.end
        if net is None:
            inputs.append(ControlInput(None, None, picture, *window))
        elif control.strength > 0.0:
            inputs.append(ControlInput(net.folder, how.mode, picture, *window, net.weights))
    return inputs
