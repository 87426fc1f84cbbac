"""Freestyle's line art as an extra of the render, within a budget of faces."""

from __future__ import annotations

from typing import Any

import bpy

from .errors import capture_error

FACES_MAX = 100_000
"""About half a minute and 2.5 GB; both grow with the faces, and no progress can be shown meanwhile."""
LINE_WIDTH = 2.0
"""Pixels."""
LEVEL_MODIFIERS = ("SUBSURF", "MULTIRES")


def check_face_budget(depsgraph: bpy.types.Depsgraph) -> None:
    """Raises `FailureError` (capture_failed) when the scene has more faces, instances counted, than Freestyle bears."""
    faces = 0
    for instance in depsgraph.object_instances:
        item: Any = instance.object
        if item.type == "MESH" and not item.original.hide_render:
            faces += len(item.data.polygons) * _render_levels_factor(item.original)
        if faces > FACES_MAX:
            raise capture_error(
                f"Freestyle would draw more than {FACES_MAX:,} faces, which takes minutes and gigabytes.",
                "Take lines from edges instead, or hide dense objects from the render.",
            )


def _render_levels_factor(item: Any) -> int:
    """How many times the faces of the viewport's subdivision the render's has."""
    extra = sum(
        modifier.render_levels - modifier.levels if modifier.show_viewport else modifier.render_levels
        for modifier in item.modifiers
        if modifier.type in LEVEL_MODIFIERS and modifier.show_render
    )
    return 4 ** max(0, extra)


def draw_lines(copy: bpy.types.Scene) -> bpy.types.FreestyleLineStyle | None:
    """Makes the copy's render give a pass "Freestyle": the layer's own line sets, or else outlines and creases.

    Returns the line style that was made for it, to be removed after the render.
    """
    layer = copy.view_layers[0]
    copy.render.use_freestyle = True
    layer.use_freestyle = True
    settings = layer.freestyle_settings
    settings.as_render_pass = True
    if settings.mode == "SCRIPT" or any(lines.show_render and lines.linestyle for lines in settings.linesets):
        return None
    style = bpy.data.linestyles.new("grisaille capture")
    style.thickness = LINE_WIDTH
    lines = settings.linesets.new("grisaille capture")
    if lines.linestyle is not None and lines.linestyle.users == 1:
        bpy.data.linestyles.remove(lines.linestyle)
    lines.linestyle = style
    lines.select_silhouette = lines.select_border = lines.select_crease = True
    return style
