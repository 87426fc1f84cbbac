"""The controls: which maps of the scene guide the picture, and how strictly."""

from __future__ import annotations

import bpy

from ...backend.wire import CONTROL_KINDS
from .. import settings
from . import text

LABELS = {"depth": "Depth", "normal": "Normal", "line": "Line Art"}


class GRISAILLE_PT_controls(bpy.types.Panel):
    bl_label = "Controls"
    bl_idname = "GRISAILLE_PT_controls"
    bl_parent_id = "GRISAILLE_PT_generate"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        chosen = settings.of(context.scene)
        for kind in CONTROL_KINDS:
            group = getattr(chosen, kind)
            column = layout.column(align=True)
            row = column.row(align=True)
            row.prop(chosen, f"use_{kind}", text=LABELS[kind])
            strength = row.row(align=True)
            strength.active = getattr(chosen, f"use_{kind}")
            strength.prop(group, "strength", text="")
            if getattr(chosen, f"use_{kind}"):
                row = column.row(align=True)
                row.prop(group, "start")
                row.prop(group, "end")
        if chosen.use_line:
            column = layout.column()
            column.use_property_split = True
            column.use_property_decorate = False
            column.prop(chosen, "line_source")
            if chosen.line_source == "FREESTYLE":
                text.paragraph(
                    column, context, "Freestyle takes seconds for each ten thousand faces, and the camera.", "TIME"
                )
        layout.operator("grisaille.show_controls", icon="IMAGE_REFERENCE")
