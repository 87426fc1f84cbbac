"""The LoRAs that the user chooses, on the scene and in scripts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bpy

from ..backend.wire import GenerationRequest, LoRA
from ..backend.wire.few_steps import (
    FEW_STEPS,
    HYBRID_SPEED,
    FewSteps,
    few_steps_of,
    file_kind,
    find_few_steps,
    parse_loras,
    with_few_steps,
)
from ..backend.wire.lora_files import FOLDER, lora_names
from ..backend.wire.loras import LORA_STRENGTH_MAX
from ..backend.wire.speeds import EXACT, SPEEDS

if TYPE_CHECKING:
    from pathlib import Path

MAKERS_STEPS = 28
"""What FLUX.1-dev's makers paint in."""
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
        precision=3,
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
    item.name, item.few_steps = name, file_kind(name, models_folder, model)
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


def use_settings(settings: Any, item: GrisailleLora, few: FewSteps, hybrid: bool) -> None:
    """Sets a scene's settings to what a LoRA for few steps was made for, alone of its kind.

    hybrid: with 8-bit products; without, a speed that has them becomes exact. Other speeds stay.
    """
    for other in settings.loras:
        other.use = other.use and not other.few_steps
    item.use, item.strength = True, few.strength
    settings.steps, settings.guidance = few.steps, few.guidance
    settings.sampler, settings.schedule = few.sampler, few.schedule
    if SPEEDS[settings.speed].eight_bit != hybrid:
        settings.speed = HYBRID_SPEED if hybrid else EXACT


def is_set(settings: Any, item: GrisailleLora, few: FewSteps, hybrid: bool) -> bool:
    """Whether the scene paints as `use_settings` would have it; guidance is the user's to vary."""
    return (
        item.use
        and abs(item.strength - few.strength) < 1e-4
        and (settings.steps, settings.sampler, settings.schedule) == (few.steps, few.sampler, few.schedule)
        and SPEEDS[settings.speed].eight_bit == hybrid
    )


def few_steps_words(few: FewSteps | None, hybrid: bool) -> str:
    """What painting in few steps gives and what it costs, for a tooltip."""
    steps = f"{few.steps} steps" if few is not None else "few steps"
    gain = f"{round(MAKERS_STEPS / few.steps, 1):g} times fewer than FLUX's usual {MAKERS_STEPS}" if few else "fast"
    words = f"Paint in {steps}, {gain}: less variety and fine detail. Sets steps, guidance, sampler and strength"
    if not hybrid:
        return words
    speed = SPEEDS[HYBRID_SPEED]
    return (
        f"{words}; and multiplies in 8 bits, which is faster still on a graphics card that can hold the transformer "
        f"(how much: {speed.gain}) and changes the picture a little (on the sample model: {speed.error})"
    )


def over(request: GenerationRequest, text: str | None, few_steps: str | None, models_folder: Path) -> dict[str, Any]:
    """The Request's fields where a script says which LoRAs, or which one for few steps; None for the scene's.

    few_steps: of PRESETS, or a file's name. Raises `FailureError` (bad_request, model_missing).
    """
    values: dict[str, Any] = {} if text is None else {"loras": parse_loras(text)}
    if few_steps is None:
        return values
    lora, kind = find_few_steps(few_steps, models_folder, request.model)
    fast = with_few_steps(replace(request, **values), lora, kind)
    names = ("loras", "steps", "guidance", "sampler", "schedule", "speed")
    return {name: getattr(fast, name) for name in names}
