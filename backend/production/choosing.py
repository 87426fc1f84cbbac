"""The model for a Request that names none: what is in the folders, against the device of this machine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..models import find_model, model_names
from ..models.model_folder import ModelFolder
from ..models.sizes import ModelSizes, model_sizes
from ..planning import Machine, ModelChoice, choose_model
from ..wire import Failure, FailureError, FailureKind, GenerationRequest
from .machine import machine_of

SETTINGS: dict[str, type] = {"steps": int, "guidance": float}
"""What a model's description may have defaults for."""


def model_for(
    request: GenerationRequest, models_folder: Path, device: str, machine: Machine | None = None
) -> ModelChoice:
    """The model that the Request names, or the best one for it; see `choose_model`.

    device: "auto" or a torch device's name. machine: with it, where that is known; else it is looked at where several
    models are there, for which torch may be loaded. Raises `FailureError`.
    """
    if request.model:
        return ModelChoice(find_model(models_folder, request.model), "")
    found, broken = _whole_models(models_folder)
    if not found:
        raise FailureError(broken[0] if broken else no_model(models_folder))
    if machine is None:
        machine = machine_of(device) if len(found) > 1 else Machine("cpu")
    return choose_model(request, found, machine)


def with_own_settings(
    request: GenerationRequest, given: Collection[str], models_folder: Path, device: str
) -> GenerationRequest:
    """The Request with the steps and the guidance of the model that will paint it, where they were not given.

    given: the names of the fields that were. Raises `FailureError` where no model can do it.
    """
    defaults = model_for(request, models_folder, device).folder.defaults
    own = {name: kind(defaults[name]) for name, kind in SETTINGS.items() if name in defaults and name not in given}
    return replace(request, **own)


def _whole_models(models_folder: Path) -> tuple[list[tuple[ModelFolder, ModelSizes]], list[Failure]]:
    """The models that can be read and have a transformer; and why others cannot."""
    found, broken = [], []
    for name in model_names(models_folder):
        try:
            folder = find_model(models_folder, name)
        except FailureError as error:
            broken.append(error.failure)
            continue
        found.append((folder, model_sizes(folder)))
    whole = [(folder, sizes) for folder, sizes in found if sizes.transformer]
    # Where none is whole, loading says what is missing.
    return whole or found, broken


def no_model(models_folder: Path) -> Failure:
    message = f"There is no model in {models_folder}."
    return Failure(FailureKind.MODEL_MISSING, message, "Choose the folder that holds your models.")
