"""The results of this scene, and the pictures that wait elsewhere."""

from __future__ import annotations

from typing import Any

import bpy

from .. import choices
from ..results import arrivals, history
from . import text


class GRISAILLE_UL_results(bpy.types.UIList):
    bl_idname = "GRISAILLE_UL_results"

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: Any,
        data: Any,
        item: Any,
        icon: int | None,
        active_data: Any,
        active_property: str | None,
        index: int | None,
        flt_flag: int | None,
    ) -> None:
        row = layout.row(align=True)
        gone = item.image is None
        row.label(text=item.prompt or "No prompt", icon="ERROR" if gone else "IMAGE_DATA")
        go = row.operator("grisaille.view_restore", text="", icon="VIEW_CAMERA", emboss=False)
        go.job_id = item.job_id


class GRISAILLE_PT_results(bpy.types.Panel):
    bl_label = "Results"
    bl_idname = "GRISAILLE_PT_results"
    bl_parent_id = "GRISAILLE_PT_generate"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        scene = context.scene
        if len(history.of(scene)):
            row = layout.row()
            row.template_list(
                "GRISAILLE_UL_results", "", scene, "grisaille_history", scene, "grisaille_history_index", rows=3
            )
            row.column(align=True).operator("grisaille.result_remove", text="", icon="REMOVE")
            _draw_verbs(layout)
        else:
            row = layout.row()
            row.active = False
            row.label(text="Pictures will be listed here")
        _draw_elsewhere(layout, context)


def _draw_verbs(layout: Any) -> None:
    column = layout.column(align=True)
    row = column.row(align=True)
    row.operator("grisaille.view_restore", icon="VIEW_CAMERA")
    row.operator("grisaille.result_settings", icon="LOOP_BACK")
    row = column.row(align=True)
    row.label(text="Show As")
    for identifier, _, _, icon, _ in choices.DESTINATIONS:
        row.operator("grisaille.result_apply", text="", icon=icon).destination = identifier
    layout.operator("grisaille.materials_restore")


def _draw_elsewhere(layout: Any, context: bpy.types.Context) -> None:
    count = len(arrivals.elsewhere())
    if not count:
        return
    box = layout.box()
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    text.paragraph(box, context, f"{pictures} from other files or earlier sessions", "INFO")
    row = box.row(align=True)
    row.operator("grisaille.results_recover")
    row.operator("grisaille.results_discard")
