"""Which of the models that are there paints a Request that names none. Nothing here asks a device or loads a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..wire import Failure, FailureError, FailureKind, GenerationRequest
from .control_choice import choose_nets
from .families import check_family
from .model_folder import ModelFolder

PREFERRED = {
    "text_to_image": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell", "kontext-dev"),
    "image_to_image": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell"),
    "inpaint": ("fill-dev", "dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell"),
    "edit": ("kontext-dev",),
    "show_prompt": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell", "kontext-dev", "fill-dev"),
    "show_controls": ("dev", "krea-dev", "redux-dev", "depth-dev", "canny-dev", "schnell", "kontext-dev", "fill-dev"),
}
"""A task's families, the best first. One that takes a map as its own input can be asked only where that map is on."""
WHOLE_BYTES = 3_000_000_000
"""A transformer of FLUX.1's 12 thousand million weights takes more, however it is packed; a smaller one is a toy."""
USABLE = 0.85
"""Of a device's memory: the rest is for the picture on its way and for what else is there."""


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Bytes on disk. transformer: all of its files. others: text encoders, VAE and what else is always loaded.

    nets: of each ControlNet, by its folder. packed: of transformer and others, what is kept as it is when loaded; the
    rest takes the device's own number format.
    """

    transformer: int
    others: int
    nets: dict[Path, int]
    packed: int = 0


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model, and why it was taken: a sentence for the plan."""

    folder: ModelFolder
    reason: str


@dataclass(frozen=True, slots=True)
class _Able:
    folder: ModelFolder
    own_nets: int
    needed: int
    transformer: int


def choose_model(
    request: GenerationRequest, models: Sequence[tuple[ModelFolder, ModelSizes]], device: str, memory: int
) -> ModelChoice:
    """The best model for a Request. Pure, but for what `check_family` reads of a transformer's config.json.

    device: "cuda", "mps" or "cpu". memory: bytes that the device has in all (main memory for a CPU); 0 for unknown,
    where every model counts as one that fits. Among those that can do the Request: one that fits before one that does
    not; then FLUX.1's full size before a toy; then one with nets of its own for the Request's controls; then by
    PREFERRED; then the most bytes, which are the least quantised. Where none fits, the smallest.

    Raises `FailureError`: model_missing where there are no models, else the first model's reason why it cannot.
    """
    able, refusals = [], []
    for folder, sizes in models:
        try:
            able.append(_able(request, folder, sizes, device))
        except FailureError as error:
            refusals.append(error.failure)
    if not able:
        raise FailureError(_none_can(refusals))
    if len(able) == 1:
        return ModelChoice(able[0].folder, "the only one here that can do this")
    fitting = [one for one in able if not memory or one.needed <= memory * USABLE]
    if not fitting:
        smallest = min(able, key=lambda one: (one.needed, one.folder.name))
        reason = f"the smallest of {len(able)} that can: none fits {_gigabytes(memory)} of memory on {device}"
        return ModelChoice(smallest.folder, reason)
    best = min(fitting, key=lambda one: _rank(request.task, one))
    return ModelChoice(best.folder, _reason(best, able, fitting, device, memory))


def needed_bytes(folder: ModelFolder, sizes: ModelSizes, kinds: Sequence[str], device: str) -> int:
    """What a model takes on a device with the nets for these controls: all of it at once, as it is loaded."""
    loose = sizes.transformer + sizes.others - sizes.packed
    # Files hold two bytes a weight where they are not packed, and a CPU computes with four.
    loaded = sizes.packed + loose * (2 if device == "cpu" else 1)
    nets = {
        choice.net.folder for choice in choose_nets(kinds, folder.controlnets, folder.name, folder.joined) if choice.net
    }
    return loaded + sum(sizes.nets.get(net, 0) for net in nets) * (2 if device == "cpu" else 1)


def _able(request: GenerationRequest, folder: ModelFolder, sizes: ModelSizes, device: str) -> _Able:
    check_family(request, folder)
    kinds = [control.kind for control in request.controls]
    choices = choose_nets(kinds, folder.controlnets, folder.name, folder.joined)
    own = sum(choice.drawn_as == choice.kind for choice in choices)
    return _Able(folder, own, needed_bytes(folder, sizes, kinds, device), sizes.transformer)


def _rank(task: str, one: _Able) -> tuple[bool, int, int, int, str]:
    order = PREFERRED[task]
    place = order.index(one.folder.variant) if one.folder.variant in order else len(order)
    return one.transformer < WHOLE_BYTES, -one.own_nets, place, -one.transformer, one.folder.name


def _reason(best: _Able, able: list[_Able], fitting: list[_Able], device: str, memory: int) -> str:
    room = f"of {_gigabytes(memory)} of memory on {device}" if memory else f"on {device}"
    return f"the best of {len(fitting)} that fit, out of {len(able)}: {_gigabytes(best.needed)} {room}"


def _none_can(refusals: list[Failure]) -> Failure:
    if refusals:
        return refusals[0]
    return Failure(FailureKind.MODEL_MISSING, "There is no model yet.", "Choose the folder that holds your models.")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
