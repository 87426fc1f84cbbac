"""Show Controls: exactly the pictures that the ControlNets will get."""

from __future__ import annotations

import bpy

from ...backend.wire import FailureError
from . import jobs


class GRISAILLE_OT_show_controls(bpy.types.Operator):
    """Show the pictures that will guide the painting, exactly as the model gets them"""

    bl_idname = "grisaille.show_controls"
    bl_label = "Show Controls"
    bl_options = set()  # noqa: RUF012

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if bpy.app.background:
            return self.execute(context)
        try:
            jobs.begin(context, jobs.show_controls_order(jobs.order_from_settings(context)))
        except FailureError as error:
            return jobs.fail(self, error.failure)
        return {"FINISHED"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            jobs.run(context, jobs.show_controls_order(jobs.order_from_settings(context)))
        except FailureError as error:
            return jobs.fail(self, error.failure)
        return {"FINISHED"}
