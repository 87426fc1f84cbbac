"""The LoRAs: small files that change what the model paints, each with a strength."""

from __future__ import annotations

from typing import Any

import bpy

from .. import loras, preferences, settings
from . import text


class GRISAILLE_MT_loras(bpy.types.Menu):
    bl_label = "Add LoRA"
    bl_idname = "GRISAILLE_MT_loras"

    def draw(self, context: bpy.types.Context) -> None:
        layout: Any = self.layout
        chosen = settings.of(context.scene)
        for name in _available(chosen):
            if chosen.loras.get(name) is None:
                layout.operator("grisaille.lora_add", text=name, translate=False).lora = name


class GRISAILLE_PT_loras(bpy.types.Panel):
    bl_label = "LoRAs"
    bl_idname = "GRISAILLE_PT_loras"
    bl_parent_id = "GRISAILLE_PT_generate"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout: Any = self.layout
        chosen = settings.of(context.scene)
        names = _available(chosen)
        column = layout.column(align=True)
        for item in chosen.loras:
            _draw_lora(column, item, item.name in names)
            _draw_few_steps(column, context, chosen, item)
        if names:
            layout.menu("GRISAILLE_MT_loras", icon="ADD")
        else:
            text.paragraph(layout, context, f"{loras.WHERE}, or in the model's own.", "INFO")


def _available(chosen: settings.GrisailleSettings) -> list[str]:
    return loras.available(preferences.models_folder(), settings.chosen_model(chosen))


def _draw_lora(layout: Any, item: Any, is_there: bool) -> None:
    # Their names are long, and often tell them apart at the end only.
    parts = layout.split(factor=0.62, align=True)
    parts.alert = not is_there
    parts.prop(item, "use", text=item.name if is_there else f"{item.name} (missing)", translate=False)
    row = parts.row(align=True)
    strength = row.row(align=True)
    strength.active = item.use
    strength.prop(item, "strength", text="", slider=True)
    row.operator("grisaille.lora_remove", text="", icon="X").lora = item.name


def _draw_few_steps(layout: Any, context: bpy.types.Context, chosen: settings.GrisailleSettings, item: Any) -> None:
    """Both ways to paint with one; the one that is set is pressed."""
    few = loras.settings_of(item)
    if few is None or not item.use:
        return
    pressed = [loras.is_set(chosen, item, few, hybrid) for hybrid in (False, True)]
    if not any(pressed):
        text.paragraph(layout, context, f"{item.name} was made for {few.steps} steps.", "INFO")
    row = layout.row(align=True)
    for hybrid, label in ((False, f"{few.steps} Steps"), (True, f"{few.steps} Steps, 8-Bit")):
        button = row.operator("grisaille.lora_steps", text=label, depress=pressed[hybrid])
        button.lora, button.hybrid = item.name, hybrid
