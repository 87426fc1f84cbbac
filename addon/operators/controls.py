"""Show Controls: exactly the pictures that the ControlNets will get."""

from __future__ import annotations

import bpy

from . import jobs
from .painting import PaintingOperator


class GRISAILLE_OT_show_controls(PaintingOperator, bpy.types.Operator):
    """Show the pictures that will guide the painting, exactly as the model gets them"""

    bl_idname = "grisaille.show_controls"
    bl_label = "Show Controls"

    def order(self, context: bpy.types.Context) -> jobs.Order:
        return jobs.show_controls_order(jobs.order_from_settings(context))
