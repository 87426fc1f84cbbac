"""Show Controls: exactly the pictures that the ControlNets will get. Presets for how strictly they act."""

from __future__ import annotations

import bpy

from .. import choices, control_settings, settings
from . import jobs
from .painting import PaintingOperator


class GRISAILLE_OT_show_controls(PaintingOperator, bpy.types.Operator):
    """Show the pictures that will guide the painting, exactly as the model gets them"""

    bl_idname = "grisaille.show_controls"
    bl_label = "Show Controls"

    def order(self, context: bpy.types.Context) -> jobs.Order:
        return jobs.show_controls_order(jobs.order_from_settings(context))


class GRISAILLE_OT_control_preset(bpy.types.Operator):
    """Set the strength and the steps of every control; each can be changed afterwards"""

    bl_idname = "grisaille.control_preset"
    bl_label = "Control Preset"
    bl_options = {"REGISTER", "UNDO"}

    preset: bpy.props.EnumProperty(name="Preset", items=choices.PRESET_ITEMS, default="balanced")

    def execute(self, context: bpy.types.Context) -> set[str]:
        control_settings.use_preset(settings.of(context.scene), self.preset)
        return {"FINISHED"}
