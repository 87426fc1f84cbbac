"""What is done to finished pictures: for those that are painted, and for the image in an Image Editor."""

from __future__ import annotations

from typing import Any

import bpy

from .. import enhance_settings
from ..operators.enhance import shown_image
from . import generate, text


class GRISAILLE_PT_enhance(bpy.types.Panel):
    bl_label = "Enhance"
    bl_idname = "GRISAILLE_PT_enhance"
    bl_parent_id = "GRISAILLE_PT_generate"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header(self, context: bpy.types.Context) -> None:
        self.layout.prop(enhance_settings.of(context.scene), "use", text="")

    def draw(self, context: bpy.types.Context) -> None:
        layout: Any = self.layout
        chosen = enhance_settings.of(context.scene)
        layout.active = chosen.use
        draw_settings(layout, context, chosen)


class GRISAILLE_PT_enhance_image(bpy.types.Panel):
    bl_label = "Enhance Image"
    bl_idname = "GRISAILLE_PT_enhance_image"
    bl_space_type = "IMAGE_EDITOR"
    bl_region_type = "UI"
    bl_category = "Grisaille"

    def draw(self, context: bpy.types.Context) -> None:
        layout: Any = self.layout
        draw_settings(layout, context, enhance_settings.of(context.scene))
        row = layout.row()
        row.scale_y = 1.4
        row.enabled = bool(shown_image(context))
        row.operator("grisaille.enhance", icon="IMAGE_DATA")
        generate.draw_waiting(layout, context)
        generate.draw_failure(layout, context)


def draw_settings(layout: Any, context: bpy.types.Context, chosen: enhance_settings.GrisailleEnhancement) -> None:
    """All settings of an enhancement."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    column.prop(chosen, "scale")
    if chosen.scale > 1.0:
        column.prop(chosen, "network")
        column.prop(chosen, "upscale_fidelity", slider=True)
    column.prop(chosen, "detail", slider=True)
    column.prop(chosen, "faces")
    if chosen.faces:
        column.prop(chosen, "face_network")
        column.prop(chosen, "fidelity", slider=True)
    column.prop(chosen, "finish")
    column.prop(chosen, "tileable")
    if (chosen.scale > 1.0 or chosen.faces) and not enhance_settings.network_names():
        text.paragraph(layout, context, enhance_settings.WHERE, "INFO")
