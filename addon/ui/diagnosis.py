"""The diagnosis, in the preferences: begin it, stop it, its lines, and its report."""

from __future__ import annotations

from typing import Any

import bpy

from .. import preferences, state
from .text import paragraph

ICONS = {"works": "CHECKMARK", "fails": "ERROR", "skipped": "REMOVE"}


def draw(layout: Any, context: bpy.types.Context) -> None:
    current = state.get()
    row = layout.row()
    if current.diagnosis is not None:
        row.label(text="Diagnosing: a step with each model takes a while", icon="TIME")
        row.operator("grisaille.diagnosis_cancel", icon="X")
        return
    row.operator("grisaille.diagnose", icon="VIEWZOOM")
    found: Any = current.diagnosed
    if found is None:
        return
    box = layout.box()
    if not hasattr(found, "lines"):
        paragraph(box, context, str(found), "ERROR")
        return
    row.operator("grisaille.diagnosis_copy", icon="COPYDOWN")
    for line in found.lines:
        paragraph(box, context, f"{line.subject}: {line.said} {line.hint}".strip(), ICONS[line.state])


def register() -> None:
    preferences.DRAWN_BELOW.append(draw)


def unregister() -> None:
    preferences.DRAWN_BELOW.remove(draw)
