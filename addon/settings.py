"""What the user chooses, on the scene, and how it becomes a Request."""

from __future__ import annotations

import json
from typing import Any

import bpy

from ..backend.wire import GenerationRequest, snap_size
from ..backend.wire.model_names import is_shipped, model_names
from ..backend.wire.request import PICTURELESS, REFERENCE_STRENGTH_MAX, TRUE_CFG_MAX, has_strength
from ..backend.wire.stages import parse_stages, plan_of
from . import choices, control_settings, enhance_settings, loras, preferences, state

SEED_MAX = 2**31 - 1
"""Blender's integer properties end here, half-way through the Request's range."""
TRUE_CFG = 2.0
"""What a negative prompt takes where nothing else is said."""
REFERENCE_STRENGTH = 1.0


def _model_items(settings: GrisailleSettings, context: bpy.types.Context | None) -> list[tuple[str, str, str, int]]:
    names = model_names(preferences.models_folder())
    items = [(name, name, _model_note(name), index) for index, name in enumerate(names)]
    if settings.model_name and settings.model_name not in names:
        gone = (settings.model_name, f"{settings.model_name} (missing)", "Not in the models folder", len(names))
        items.append(gone)
    if not items:
        items.append(("", "No Models", "The models folder has no model in it", 0))
    # Blender keeps no reference to a dynamic enum's strings: they would be freed while the menu is open.
    state.get().model_items = items
    return items


def _model_note(name: str) -> str:
    if is_shipped(preferences.models_folder(), name):
        return "Ships with Grisaille. It knows only simple things: shapes, colours, materials, lights"
    return f"The model in the folder {name}"


def _get_model(settings: GrisailleSettings) -> int:
    chosen = chosen_model(settings)
    return next((item[3] for item in _model_items(settings, None) if item[0] == chosen), 0)


def _set_model(settings: GrisailleSettings, value: int) -> None:
    settings.model_name = next((item[0] for item in _model_items(settings, None) if item[3] == value), "")


class GrisailleSettings(control_settings.ControlSettings, bpy.types.PropertyGroup):
    """`scene.grisaille`."""

    prompt: bpy.props.StringProperty(
        name="Prompt",
        description="What the picture shows, in your words. (word:1.2) weighs, {a|b} is one of the two by the seed",
    )
    style: bpy.props.EnumProperty(
        name="Style", description="A style whose words are added to the prompt", items=choices.STYLE_ITEMS
    )
    enhance: bpy.props.BoolProperty(
        name="Enhance Prompt", description="Add words on light and quality where the prompt says nothing of them"
    )
    size_mode: bpy.props.EnumProperty(
        name="Size", description="Where the picture's size comes from", items=choices.SIZE_MODES
    )
    width: bpy.props.IntProperty(
        name="Width", description="In pixels", default=1024, min=64, max=4096, step=16, subtype="PIXEL"
    )
    height: bpy.props.IntProperty(
        name="Height", description="In pixels", default=1024, min=64, max=4096, step=16, subtype="PIXEL"
    )
    seed: bpy.props.IntProperty(
        name="Seed", description="The same seed and settings make the same picture", min=0, max=SEED_MAX
    )
    seed_locked: bpy.props.BoolProperty(
        name="Lock Seed", description="Keep this seed; unlocked, each Generate takes a new one"
    )
    steps: bpy.props.IntProperty(
        name="Steps", description="More steps take longer and work out more", default=20, min=1, max=200, soft_max=50
    )
    guidance: bpy.props.FloatProperty(
        name="Guidance",
        description="How closely the picture follows the prompt",
        default=3.5,
        min=0.0,
        max=100.0,
        soft_max=10.0,
    )
    start: bpy.props.EnumProperty(
        name="Start From", description="What the picture is made of", items=choices.START_ITEMS
    )
    start_image: bpy.props.PointerProperty(
        name="Picture", description="The picture to change; cropped to the size", type=bpy.types.Image
    )
    start_mask: bpy.props.PointerProperty(
        name="Mask",
        description="White where the picture may change, black where it stays; grey changes less",
        type=bpy.types.Image,
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How far to go from the picture: low keeps it, 1 forgets it",
        default=0.6,
        min=0.01,
        max=1.0,
        subtype="FACTOR",
    )
    reference_image: bpy.props.PointerProperty(
        name="Reference",
        description="A picture whose content and style to take up, for models with Redux",
        type=bpy.types.Image,
    )
    reference_strength: bpy.props.FloatProperty(
        name="Reference Strength",
        description="How strongly the reference speaks beside the prompt",
        default=REFERENCE_STRENGTH,
        min=0.01,
        max=REFERENCE_STRENGTH_MAX,
        soft_max=1.0,
        subtype="FACTOR",
    )
    negative_prompt: bpy.props.StringProperty(
        name="Negative Prompt", description="What the picture should not show. Each step then takes twice as long"
    )
    true_cfg: bpy.props.FloatProperty(
        name="True CFG",
        description="How strongly the picture turns from the negative prompt; lower Guidance to about 1 with it",
        default=TRUE_CFG,
        min=1.01,
        max=TRUE_CFG_MAX,
        soft_max=6.0,
    )
    sampler: bpy.props.EnumProperty(name="Sampler", description="How the steps are taken", items=choices.SAMPLER_ITEMS)
    schedule: bpy.props.EnumProperty(
        name="Schedule", description="Where the steps are taken", items=choices.SCHEDULE_ITEMS
    )
    speed: bpy.props.EnumProperty(
        name="Speed", description="How exactly the picture is computed", items=choices.SPEED_ITEMS
    )
    stages: bpy.props.EnumProperty(
        name="Stages",
        description="How many times the picture is gone over, and at what size",
        items=choices.STAGE_ITEMS,
    )
    custom_stages: bpy.props.StringProperty(
        name="Custom Stages", description="A list of stages in JSON: scale, steps, strength, controls", default="[]"
    )
    model_name: bpy.props.StringProperty(
        name="Model Name", description="The folder of the model; empty for the first there is"
    )
    model: bpy.props.EnumProperty(
        name="Model", description="What paints the picture", items=_model_items, get=_get_model, set=_set_model
    )
    loras: bpy.props.CollectionProperty(type=loras.GrisailleLora, name="LoRAs")
    source: bpy.props.EnumProperty(name="View", description="What the picture is seen from", items=choices.SOURCES)
    line_source: bpy.props.EnumProperty(name="Lines", description="What draws the line map", items=choices.LINE_SOURCES)
    destination: bpy.props.EnumProperty(name="Result", description="Where the picture goes", items=choices.DESTINATIONS)


def of(scene: bpy.types.Scene) -> GrisailleSettings:
    """The settings of a scene."""
    return scene.grisaille  # pyright: ignore[reportAttributeAccessIssue]


def chosen_model(settings: GrisailleSettings) -> str:
    """The model's name; where none is chosen, the first there is, or "" when there is none."""
    if settings.model_name:
        return settings.model_name
    return next(iter(model_names(preferences.models_folder())), "")


def wanted_size(settings: GrisailleSettings, scene: bpy.types.Scene, region: Any = None) -> tuple[int, int]:
    """The size in pixels that the user asks for, before it is snapped. `region`: of the 3D view, where there is one."""
    if settings.size_mode == "MATCH_VIEWPORT" and region is not None:
        return region.width, region.height
    if settings.size_mode == "CUSTOM":
        return settings.width, settings.height
    render = scene.render
    share = render.resolution_percentage / 100
    return max(1, int(render.resolution_x * share)), max(1, int(render.resolution_y * share))


def describe_size(wanted: tuple[int, int]) -> str:
    """The size that will be made, and what is cut off or added to make the sides multiples of 16."""
    made = snap_size(*wanted)
    text = f"{made[0]} x {made[1]} px"
    scale = max(made[0] / wanted[0], made[1] / wanted[1])
    if scale < 0.9 or scale > 1.1:
        return f"{text}, scaled from {wanted[0]} x {wanted[1]}"
    changes = []
    for made_side, wanted_side, name in zip(made, wanted, ("wide", "high"), strict=True):
        if made_side != wanted_side:
            more = made_side - wanted_side
            changes.append(f"{abs(more)} {'more' if more > 0 else 'cropped'} {name}")
    return f"{text} ({', '.join(changes)})" if changes else text


def to_request(settings: GrisailleSettings, width: int, height: int, seed: int) -> GenerationRequest:
    """The Request for these settings. It is not checked: `request.check()` says what is wrong with it."""
    chosen = control_settings.controls(settings)
    return GenerationRequest(
        prompt=settings.prompt,
        **style(settings.style),
        enhance=settings.enhance,
        width=width,
        height=height,
        seed=seed,
        task=settings.start,
        strength=round(settings.strength, 4) if has_strength(settings.start) else 1.0,
        steps=settings.steps,
        guidance=round(settings.guidance, 4),
        model=chosen_model(settings),
        sampler=settings.sampler,
        schedule=settings.schedule,
        speed=settings.speed,
        **negative(settings.negative_prompt, _true_cfg(settings)),
        controls=chosen,
        stages=parse_stages(_stages_text(settings), settings.steps, chosen),
        reference_strength=round(settings.reference_strength, 4) if settings.reference_image else 0.0,
        loras=loras.used(settings.loras),
        enhancement=enhance_settings.used(enhance_settings.of(settings.id_data)),
    )


def style(name: str | None) -> dict[str, Any]:
    """The Request's field for a style as the panel and scripts name it; of what a script does not say (None), none."""
    return {} if name is None else {"style": "" if name == choices.NO_STYLE else name}


def _stages_text(settings: GrisailleSettings) -> str:
    return settings.custom_stages if settings.stages == choices.CUSTOM_STAGES else settings.stages


def stages_over(scene: bpy.types.Scene, request: GenerationRequest, text: str | None) -> dict[str, Any]:
    """The Request's stages as a script says them; where it says none (None), the scene's for this Request."""
    return {"stages": parse_stages(_stages_text(of(scene)) if text is None else text, request.steps, request.controls)}


def negative(prompt: str, true_cfg: float | None = None) -> dict[str, Any]:
    """The Request's fields for a negative prompt. Without one, CFG stays 1: it would cost a second pass a step.

    true_cfg: as it was given, so that one without a prompt is refused, not forgotten.
    """
    if not prompt.strip():
        return {"negative_prompt": "", "true_cfg": 1.0 if true_cfg is None else true_cfg}
    return {"negative_prompt": prompt, "true_cfg": TRUE_CFG if true_cfg is None else true_cfg}


def negative_over(request: GenerationRequest, prompt: str | None, true_cfg: float | None) -> dict[str, Any]:
    """The Request's fields where a script says one of both or neither (None); the rest is the scene's."""
    if prompt is None and true_cfg is None:
        return {}
    return negative(request.negative_prompt if prompt is None else prompt, true_cfg)


def _true_cfg(settings: GrisailleSettings) -> float | None:
    """The panel shows it beside a negative prompt only."""
    return round(settings.true_cfg, 4) if settings.negative_prompt.strip() else None


def from_request(settings: GrisailleSettings, request: GenerationRequest) -> None:
    """Sets everything as it was for `request`: the same picture comes out again."""
    if request.task == "enhance":  # nothing was painted
        enhance_settings.fill(enhance_settings.of(settings.id_data), request.enhancement)
        return
    settings.prompt = request.prompt
    settings.style, settings.enhance = request.style or choices.NO_STYLE, request.enhance
    settings.size_mode = "CUSTOM"
    settings.width, settings.height = request.width, request.height
    settings.seed, settings.seed_locked = min(request.seed, SEED_MAX), True
    settings.steps, settings.guidance = request.steps, request.guidance
    if has_strength(request.task):
        settings.strength = request.strength
    if request.reference_strength > 0.0:
        settings.reference_strength = request.reference_strength
    else:
        settings.reference_image = None
    settings.start = request.task if request.task not in PICTURELESS else settings.start
    settings.sampler, settings.schedule, settings.speed = request.sampler, request.schedule, request.speed
    settings.negative_prompt = request.negative_prompt
    settings.true_cfg = request.true_cfg if request.true_cfg > 1.0 else TRUE_CFG
    settings.model_name = request.model
    loras.fill(settings.loras, request.loras)
    enhance_settings.fill(enhance_settings.of(settings.id_data), request.enhancement)
    control_settings.fill(settings, request.controls)
    settings.custom_stages = json.dumps(request.to_json()["stages"])
    settings.stages = plan_of(request.stages, request.steps, request.controls) or choices.CUSTOM_STAGES


CLASSES = (control_settings.GrisailleControl, loras.GrisailleLora, GrisailleSettings)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.grisaille = bpy.props.PointerProperty(type=GrisailleSettings)  # pyright: ignore[reportAttributeAccessIssue]


def unregister() -> None:
    del bpy.types.Scene.grisaille  # pyright: ignore
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
