"""The LoRAs that the user chooses, on the scene and in scripts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bpy

from ..backend.wire import FailureError, FailureKind, GenerationRequest, LoRA
from ..backend.wire.few_steps import FEW_STEPS, FewSteps, few_steps_of, parse_loras, with_few_steps
from ..backend.wire.lora_files import FOLDER, lora_metadata, lora_names, lora_path
from ..backend.wire.loras import LORA_STRENGTH_MAX

if TYPE_CHECKING:
    from pathlib import Path

WHERE = f"Put .safetensors files into a folder {FOLDER} in the models folder"


class GrisailleLora(bpy.types.PropertyGroup):
    """One LoRA; its `name` is the file's, without the ending."""

    use: bpy.props.BoolProperty(name="Use", description="Paint with this LoRA", default=True)
    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How strongly it changes the model; below 0 it turns the picture away from its style",
        default=1.0,
        min=-LORA_STRENGTH_MAX,
        max=LORA_STRENGTH_MAX,
        soft_min=0.0,
        soft_max=1.5,
        step=5,
    )
    few_steps: bpy.props.StringProperty(
        name="Few Steps", description="Which of the LoRAs that paint in few steps this is; empty for another one"
    )


def available(models_folder: Path, model: str) -> list[str]:
    """The LoRAs that there are for a model."""
    return lora_names(models_folder, model)


def add(items: Any, name: str, models_folder: Path, model: str) -> GrisailleLora:
    """Puts a LoRA on the scene's list, with the strength that is usual for it; one that is there stays as it is."""
    if (there := items.get(name)) is not None:
        return there
    item = items.add()
    item.name, item.few_steps = name, _kind(name, models_folder, model)
    if item.few_steps:
        item.strength = FEW_STEPS[item.few_steps].strength
    return item


def remove(items: Any, name: str) -> None:
    if (index := items.find(name)) >= 0:
        items.remove(index)


def fill(items: Any, loras: Iterable[LoRA]) -> None:
    """Makes the list what a Request had."""
    items.clear()
    for lora in loras:
        item = items.add()
        item.name, item.strength, item.few_steps = lora.name, lora.strength, few_steps_of(lora.name)


def used(items: Any) -> tuple[LoRA, ...]:
    """The Request's field."""
    return tuple(LoRA(item.name, round(item.strength, 4)) for item in items if item.use)


def settings_of(item: GrisailleLora) -> FewSteps | None:
    """What a LoRA that paints in few steps was made for; None where the item is another one."""
    return FEW_STEPS.get(item.few_steps)


def over(request: GenerationRequest, text: str | None, few_steps: str | None, models_folder: Path) -> dict[str, Any]:
    """The Request's fields where a script says which LoRAs, or which one for few steps; None for the scene's.

    Raises `FailureError` (bad_request).
    """
    values: dict[str, Any] = {} if text is None else {"loras": parse_loras(text)}
    if few_steps is None:
        return values
    LoRA(few_steps).check()
    kind = _kind(few_steps, models_folder, request.model)
    if not kind:
        titles = " or ".join(dict.fromkeys(few.title for few in FEW_STEPS.values()))
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"{few_steps!r} is not known as a LoRA that paints in few steps.",
            f"Use {titles}; or name it as a LoRA, with steps and guidance of your own.",
        )
    fast = with_few_steps(replace(request, **values), few_steps, kind)
    names = ("loras", "steps", "guidance", "sampler", "schedule")
    return {name: getattr(fast, name) for name in names}


def _kind(name: str, models_folder: Path, model: str) -> str:
    path = lora_path(models_folder, model, name)
    return few_steps_of(name, lora_metadata(path) if path is not None else None)
