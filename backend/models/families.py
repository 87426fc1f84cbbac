"""What a model's family can paint, said before anything is loaded."""

from __future__ import annotations

from typing import NoReturn

from ..wire import FailureError, FailureKind, GenerationRequest
from ..wire.request import PICTURELESS
from .model_folder import ModelFolder, channels_in
from .settings import MODEL_VARIANTS

TASK_WORDS = {
    "text_to_image": "paint from noise",
    "image_to_image": "start from a picture",
    "inpaint": "change a part of a picture",
    "edit": "edit a picture by instruction",
}


def check_family(request: GenerationRequest, folder: ModelFolder) -> None:
    """Raises `FailureError` (model_unsupported, model_broken or bad_request) unless the model can do what is asked."""
    if request.task in PICTURELESS:
        return
    # What is painted into a picture that is enhanced starts from it.
    family, task = folder.family, "image_to_image" if request.task == "enhance" else request.task
    if task not in family.tasks:
        able = [name for name, variant in MODEL_VARIANTS.items() if task in variant.tasks]
        _unsupported(
            f"The model {folder.name!r} ({folder.variant}) cannot {_words(task)}.",
            f"Choose another model ({' or '.join(able[:3])}), or another task"
            f" (this one can {' or '.join(map(_words, family.tasks))}).",
        )
    if request.has_detail and detail_task(request) not in family.tasks:
        _unsupported(
            f"The model {folder.name!r} ({folder.variant}) cannot paint detail into a picture.",
            "Set the enhancement's detail to 0, or choose another model, such as dev.",
        )
    if family.recipe:
        _check_joined_control(request, folder)
    if request.reference_strength > 0.0 and folder.redux is None:
        _unsupported(
            f"The model {folder.name!r} has no Redux, which reads reference pictures.",
            "Take the reference picture away, or add image_encoder and redux of FLUX.1-Redux-dev to the model.",
        )
    _check_channels(folder)


def detail_task(request: GenerationRequest) -> str:
    """The task that a tile is painted by, where detail is: what a mask keeps stays kept."""
    return "inpaint" if request.task == "inpaint" else "image_to_image"


def _check_joined_control(request: GenerationRequest, folder: ModelFolder) -> None:
    """A model that takes a map joined to its tokens always takes it, and all of it."""
    kind = folder.family.control
    control = next((control for control in request.controls if control.kind == kind), None)
    if control is None:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The model {folder.name!r} ({folder.variant}) paints from a {kind} map, and the {kind} control is off.",
            f"Switch the {kind} control on, or choose another model.",
        )
    if (control.strength, control.start, control.end) != (1.0, 0.0, 1.0):
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The model {folder.name!r} ({folder.variant}) takes its {kind} map whole and in all steps.",
            f"Set the {kind} control to strength 1, from 0 to 1; or choose a model with a ControlNet for {kind} maps.",
        )


def _check_channels(folder: ModelFolder) -> None:
    """That the transformer is one of the family that the description names."""
    found = channels_in(folder.transformer_config)
    wanted = 64 if folder.control_lora else folder.family.in_channels
    if found is not None and found != wanted:
        raise FailureError.of(
            FailureKind.MODEL_BROKEN,
            f"The model {folder.name!r} is described as {folder.variant}, whose transformer takes {wanted} channels,"
            f" but this one takes {found}.",
            'Correct "variant" in its model.json, or download the model again.',
            str(folder.transformer_config),
        )


def _words(task: str) -> str:
    return TASK_WORDS.get(task, f"do the task {task}")


def _unsupported(message: str, hint: str) -> NoReturn:
    raise FailureError.of(FailureKind.MODEL_UNSUPPORTED, message, hint)
