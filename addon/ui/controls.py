"""The controls: which maps of the scene guide the picture, and how strictly."""

from __future__ import annotations

from typing import Any

import bpy

from ...backend.wire import CONTROL_KINDS
from .. import choices, settings, state
from . import text


class GRISAILLE_PT_controls(bpy.types.Panel):
    bl_label = "Controls"
    bl_idname = "GRISAILLE_PT_controls"
    bl_parent_id = "GRISAILLE_PT_generate"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"

    def draw(self, context: bpy.types.Context) -> None:
        layout: Any = self.layout
        chosen = settings.of(context.scene)
        on = [kind for kind in CONTROL_KINDS if getattr(chosen, f"use_{kind}")]
        layout.operator_menu_enum("grisaille.control_preset", "preset", text="Preset")
        column = layout.column(align=True)
        for kind in CONTROL_KINDS:
            row = column.row(align=True)
            row.prop(chosen, f"use_{kind}", text=choices.CONTROL_LABELS[kind])
            strength = row.row(align=True)
            strength.active = kind in on
            strength.prop(getattr(chosen, kind), "strength", text="")
        if chosen.use_line or chosen.use_canny or chosen.use_soft_edge:
            column = layout.column()
            column.use_property_split = True
            column.use_property_decorate = False
            column.prop(chosen, "line_source")
            if chosen.line_source == "FREESTYLE":
                text.paragraph(
                    column, context, "Freestyle takes seconds for each ten thousand faces, and the camera.", "TIME"
                )
        if chosen.source == "CAMERA" and (chosen.use_grey or chosen.use_tile or chosen.use_blur):
            text.paragraph(layout, context, "Colours are rendered for these, with a few samples of Cycles.", "TIME")
        layout.operator("grisaille.show_controls", icon="IMAGE_REFERENCE")
        if note := state.get().control_note:
            text.paragraph(layout, context, note, "INFO")
        if on:
            _draw_timing(layout, chosen, on)


def _draw_timing(layout: Any, chosen: settings.GrisailleSettings, kinds: list[str]) -> None:
    header, body = layout.panel("GRISAILLE_PT_timing", default_closed=True)
    header.label(text="Share of the Steps")
    if body is None:
        return
    for kind in kinds:
        row = body.row(align=True)
        row.label(text=choices.CONTROL_LABELS[kind])
        row.prop(getattr(chosen, kind), "start", text="")
        row.prop(getattr(chosen, kind), "end", text="")
