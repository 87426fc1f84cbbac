"""The tab's first panel: what to paint, and how it is going."""

from __future__ import annotations

from typing import Any

import bpy

from ...backend.wire.model_names import is_shipped
from ...backend.wire.request import has_strength
from .. import settings, state
from ..operators import jobs
from ..results import preview
from . import prompt, text


class GRISAILLE_PT_generate(bpy.types.Panel):
    bl_label = "Grisaille"
    bl_idname = "GRISAILLE_PT_generate"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Grisaille"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        chosen = settings.of(context.scene)
        prompt.draw(layout, context, chosen)
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        _draw_view(column, context, chosen)
        _draw_numbers(column, chosen)
        column.prop(chosen, "destination")
        _draw_jobs(layout, context)
        draw_failure(layout, context)


def _draw_view(layout: Any, context: bpy.types.Context, chosen: settings.GrisailleSettings) -> None:
    layout.prop(chosen, "model")
    if is_shipped(settings.preferences.models_folder(), settings.chosen_model(chosen)):
        text.note(layout, "Knows only simple things")
    layout.prop(chosen, "source")
    layout.prop(chosen, "size_mode")
    if chosen.size_mode == "CUSTOM":
        sides = layout.column(align=True)
        sides.prop(chosen, "width")
        sides.prop(chosen, "height")
    view = jobs.find_view(context)
    wanted = settings.wanted_size(chosen, context.scene, view[1] if view else None)
    text.note(layout, settings.describe_size(wanted))
    _draw_start(layout, chosen)


def _draw_start(layout: Any, chosen: settings.GrisailleSettings) -> None:
    layout.prop(chosen, "start")
    if chosen.start != "text_to_image":
        _draw_picture(layout, chosen)
    layout.template_ID(chosen, "reference_image", open="image.open", text="Reference")
    if chosen.reference_image:
        layout.prop(chosen, "reference_strength", slider=True)


def _draw_picture(layout: Any, chosen: settings.GrisailleSettings) -> None:
    layout.template_ID(chosen, "start_image", open="image.open", text="Picture")
    if chosen.start == "inpaint":
        layout.template_ID(chosen, "start_mask", new="image.new", open="image.open", text="Mask")
    if has_strength(chosen.start):
        layout.prop(chosen, "strength", slider=True)


def _draw_numbers(layout: Any, chosen: settings.GrisailleSettings) -> None:
    row = layout.row(align=True)
    row.prop(chosen, "seed")
    row.prop(chosen, "seed_locked", text="", icon="LOCKED" if chosen.seed_locked else "UNLOCKED")
    layout.prop(chosen, "steps")
    layout.prop(chosen, "guidance")
    if chosen.negative_prompt.strip():
        layout.prop(chosen, "true_cfg")
        text.note(layout, "The negative prompt doubles the time")
    layout.prop(chosen, "sampler")
    layout.prop(chosen, "schedule")
    layout.prop(chosen, "speed")
    layout.prop(chosen, "stages")


def _draw_jobs(layout: Any, context: bpy.types.Context) -> None:
    row = layout.row()
    row.scale_y = 1.4
    row.operator("grisaille.generate", icon="BRUSH_DATA")
    draw_waiting(layout, context)


def draw_waiting(layout: Any, context: bpy.types.Context) -> None:
    """What is running and what waits, each with its progress and a way to end it."""
    waiting = list(state.get().jobs.values())
    if not waiting:
        return
    if icon := preview.icon_id():
        layout.template_icon(icon_value=icon, scale=8.0)
    for job in waiting:
        row = layout.row(align=True)
        fraction = job.progress.fraction if job.progress else 0.0
        row.progress(factor=fraction, text=text.progress_words(job.progress))
        row.operator("grisaille.cancel", text="", icon="X").job_id = job.job_id
        for line in job.progress.note.splitlines() if job.progress else ():
            text.paragraph(layout, context, line, "INFO")
    if len(waiting) > 1:
        layout.operator("grisaille.cancel", text="Cancel All")


def draw_failure(layout: Any, context: bpy.types.Context) -> None:
    """What went wrong last, and the next step."""
    failure = state.get().failure
    if failure is None:
        return
    box = layout.box()
    row = box.row()
    sentence = row.column()
    sentence.alert = True
    text.paragraph(sentence, context, failure.message, icon="ERROR", buttons=1)
    row.operator("grisaille.failure_dismiss", text="", icon="X", emboss=False)
    text.paragraph(box, context, failure.hint)
    match failure.kind:
        case "backend_not_found" | "model_missing" | "not_writable":
            box.operator("preferences.addon_show", text="Open Preferences").module = settings.preferences.ROOT_PACKAGE
        case "internal" | "backend_died" | "protocol" | "model_broken":
            box.operator("grisaille.log_folder_open")
