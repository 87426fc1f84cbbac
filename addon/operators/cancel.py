"""Cancel: the running job, or all of them."""

from __future__ import annotations

import bpy

from .. import state


class GRISAILLE_OT_cancel(bpy.types.Operator):
    """Stop painting. The scene stays as it is"""

    bl_idname = "grisaille.cancel"
    bl_label = "Cancel"
    bl_options = set()

    job_id: bpy.props.StringProperty(name="Job", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if state.get().jobs:
            return True
        cls.poll_message_set("Nothing is being painted")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        current = state.get()
        if current.link is None:
            return {"CANCELLED"}
        if self.job_id:
            current.link.cancel(self.job_id)
        else:
            current.link.cancel_all()
        return {"FINISHED"}
