"""What is done to finished pictures: for those that are painted, and for the image in an Image Editor."""

from __future__ import annotations

from typing import Any

import bpy

from ...backend.wire import snap_size
from ...backend.wire.enhancement import larger
from .. import enhance_settings, settings
from ..operators import jobs
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
        view = jobs.find_view(context)
        painted = settings.of(context.scene)
        size = snap_size(*settings.wanted_size(painted, context.scene, view[1] if view else None))
        draw_settings(layout, context, chosen, size)


class GRISAILLE_PT_enhance_image(bpy.types.Panel):
    bl_label = "Enhance Image"
    bl_idname = "GRISAILLE_PT_enhance_image"
    bl_space_type = "IMAGE_EDITOR"
    bl_region_type = "UI"
    bl_category = "Grisaille"

    def draw(self, context: bpy.types.Context) -> None:
        layout: Any = self.layout
        chosen = enhance_settings.of(context.scene)
        image = bpy.data.images.get(shown_image(context))
        if chosen.detail > 0.0:
            layout.prop(settings.of(context.scene), "prompt", text="", placeholder="Describe the picture")
        draw_settings(layout, context, chosen, (image.size[0], image.size[1]) if image is not None else None)
        row = layout.row()
        row.scale_y = 1.4
        row.enabled = bool(shown_image(context))
        row.operator("grisaille.enhance", icon="IMAGE_DATA")
        generate.draw_waiting(layout, context)
        generate.draw_failure(layout, context)


def draw_settings(
    layout: Any,
    context: bpy.types.Context,
    chosen: enhance_settings.GrisailleEnhancement,
    size: tuple[int, int] | None = None,
) -> None:
    """All settings of an enhancement. size: in pixels, of the picture that it is for, where there is one."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    column.prop(chosen, "scale")
    if chosen.scale > 1.0 and size is not None and min(size) > 0:
        text.note(column, "{} x {} px".format(*larger(*size, chosen.scale)))
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
    if enhance_settings.enhancement(chosen).does_nothing:
        text.paragraph(layout, context, "Set so, the picture stays as it is.", "INFO")
