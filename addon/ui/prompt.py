"""The prompt's part of the first panel: its words, the style, and what becomes of them."""

from __future__ import annotations

from typing import Any

import bpy

from .. import settings, state
from . import text


def draw(layout: Any, context: bpy.types.Context, chosen: settings.GrisailleSettings) -> None:
    """The prompt, the negative prompt, style, Enhance Prompt, and what Show Prompt found of just these words."""
    row = layout.row(align=True)
    row.prop(chosen, "prompt", text="", placeholder="Describe the picture")
    row.operator("grisaille.show_prompt", text="", icon="VIEWZOOM")
    layout.prop(chosen, "negative_prompt", text="", placeholder="What it should not show")
    row = layout.row(align=True)
    row.prop(chosen, "style", text="")
    row.prop(chosen, "enhance", toggle=True)
    shown = state.get().shown_prompt
    asked = (chosen.prompt, settings.style(chosen.style)["style"], chosen.enhance)
    if shown is None or shown.asked != asked:
        return
    box = layout.box()
    text.paragraph(box, context, shown.prompt, "TEXT")
    text.paragraph(box, context, f"Tokens: {shown.tokens}")
    if shown.note:
        text.paragraph(box, context, shown.note, "INFO")
