"""Generate: from the view to a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy

from ...backend.wire.few_steps import PRESETS
from .. import choices, control_settings, enhance_settings, loras, preferences, settings
from . import jobs, start
from .enhance_options import EnhanceOptions
from .painting import PaintingOperator


class GRISAILLE_OT_generate(EnhanceOptions, PaintingOperator, bpy.types.Operator):
    """Paint a picture of this view. In scripts, waits for it; every setting can be given, others are the scene's"""

    bl_idname = "grisaille.generate"
    bl_label = "Generate"

    prompt: bpy.props.StringProperty(name="Prompt", options={"SKIP_SAVE"})
    style: bpy.props.EnumProperty(name="Style", items=choices.STYLE_ITEMS, options={"SKIP_SAVE"})
    enhance: bpy.props.BoolProperty(name="Enhance Prompt", options={"SKIP_SAVE"})
    width: bpy.props.IntProperty(name="Width", options={"SKIP_SAVE"})
    height: bpy.props.IntProperty(name="Height", options={"SKIP_SAVE"})
    seed: bpy.props.IntProperty(name="Seed", options={"SKIP_SAVE"})
    steps: bpy.props.IntProperty(name="Steps", options={"SKIP_SAVE"})
    guidance: bpy.props.FloatProperty(name="Guidance", options={"SKIP_SAVE"})
    negative_prompt: bpy.props.StringProperty(name="Negative Prompt", options={"SKIP_SAVE"})
    true_cfg: bpy.props.FloatProperty(name="True CFG", options={"SKIP_SAVE"})
    image: bpy.props.StringProperty(
        name="Picture", description="The name of an image to start from", options={"SKIP_SAVE"}
    )
    mask: bpy.props.StringProperty(
        name="Mask", description="The name of an image, white where that may change", options={"SKIP_SAVE"}
    )
    edit: bpy.props.StringProperty(
        name="Picture to Edit",
        description="The name of an image that the prompt says how to change; for Kontext models",
        options={"SKIP_SAVE"},
    )
    strength: bpy.props.FloatProperty(name="Strength", options={"SKIP_SAVE"})
    reference: bpy.props.StringProperty(
        name="Reference", description="The name of an image to take up, for models with Redux", options={"SKIP_SAVE"}
    )
    reference_strength: bpy.props.FloatProperty(name="Reference Strength", options={"SKIP_SAVE"})
    model: bpy.props.StringProperty(name="Model", options={"SKIP_SAVE"})
    sampler: bpy.props.EnumProperty(name="Sampler", items=choices.SAMPLER_ITEMS, options={"SKIP_SAVE"})
    schedule: bpy.props.EnumProperty(name="Schedule", items=choices.SCHEDULE_ITEMS, options={"SKIP_SAVE"})
    speed: bpy.props.EnumProperty(name="Speed", items=choices.SPEED_ITEMS, options={"SKIP_SAVE"})
    controls: bpy.props.StringProperty(name="Controls", description='As "depth,normal:0.5"', options={"SKIP_SAVE"})
    preset: bpy.props.EnumProperty(
        name="Preset", description="How strictly the controls act", items=choices.PRESET_ITEMS, options={"SKIP_SAVE"}
    )
    stages: bpy.props.StringProperty(
        name="Stages", description='"one", "details", "polish", or a JSON list of stages', options={"SKIP_SAVE"}
    )
    loras: bpy.props.StringProperty(name="LoRAs", description='As "woodcut:0.8,ink"', options={"SKIP_SAVE"})
    few_steps: bpy.props.StringProperty(
        name="Few Steps",
        description=f"A LoRA that paints in few steps, with its steps and guidance: {', '.join(PRESETS)}, or a file's "
        "name. Those on 8bit multiply in 8 bits too: faster on a graphics card, with a small error",
        options={"SKIP_SAVE"},
    )
    camera: bpy.props.StringProperty(name="Camera", options={"SKIP_SAVE"})
    source: bpy.props.EnumProperty(name="View", items=choices.SOURCES, options={"SKIP_SAVE"})
    destination: bpy.props.EnumProperty(name="Result", items=choices.DESTINATIONS, options={"SKIP_SAVE"})
    filepath: bpy.props.StringProperty(
        name="File", description="A file for the picture, besides the scene", subtype="FILE_PATH", options={"SKIP_SAVE"}
    )

    def order(self, context: bpy.types.Context) -> jobs.Order:
        order = jobs.order_from_settings(context, new_seed=not self._given("seed"))
        order = start.from_names(order, self.image, self.mask, self.edit)
        order = start.with_reference(order, self.reference)
        values = {name: self._value(name) for name in start.REQUEST_NAMES if self._given(name)}
        values |= settings.style(self._value("style"))
        values |= settings.negative_over(order.request, self._value("negative_prompt"), self._value("true_cfg"))
        values |= control_settings.controls_over(order.request, self._value("controls"), self._value("preset"))
        values |= enhance_settings.over(order.request.enhancement, self.enhancement_values())
        request = replace(order.request, **values)
        values = {
            **loras.over(request, self._value("loras"), self._value("few_steps"), preferences.models_folder()),
            **values,
        }
        values |= settings.stages_over(context.scene, replace(order.request, **values), self._value("stages"))
        # A viewport is not what a script looks through, unless it says so.
        source = self.source if self._given("source") else "CAMERA" if bpy.app.background else order.source
        return replace(
            order,
            request=replace(order.request, **values),
            source="CAMERA" if self.camera else source,
            camera=self.camera,
            destination=self.destination if self._given("destination") else order.destination,
            output=bpy.path.abspath(self.filepath) if self.filepath else "",
        )

    def _value(self, name: str) -> Any:
        """As it was written, None where it was not: Blender keeps single precision, in which 0.8 is 0.800000012."""
        if not self._given(name):
            return None
        value = getattr(self, name)
        return round(value, 4) if isinstance(value, float) else value

    def _given(self, name: str) -> bool:
        return self.properties.is_property_set(name)  # pyright: ignore[reportOptionalMemberAccess]
