"""What can be done with a result: show it elsewhere, use its settings again, remove it."""

from __future__ import annotations

import bpy

from ...backend.wire import FailureError
from .. import choices, settings, state
from ..results import arrivals, history, kept
from . import jobs


class _OnResult:
    """An operator on one result: by its job id, else the one chosen in the list."""

    job_id: bpy.props.StringProperty(name="Job", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.scene is not None and len(history.of(context.scene)):
            return True
        cls.poll_message_set("There is no result yet")  # pyright: ignore[reportAttributeAccessIssue]
        return False

    def entry(self, context: bpy.types.Context) -> history.GrisailleResult | None:
        return history.entry_of(self.job_id) if self.job_id else history.active(context.scene)


class GRISAILLE_OT_result_apply(_OnResult, bpy.types.Operator):
    """Show this picture in one more place"""

    bl_idname = "grisaille.result_apply"
    bl_label = "Show Result"
    bl_options = {"UNDO"}

    destination: bpy.props.EnumProperty(name="Place", items=choices.DESTINATIONS, options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        chosen = properties.destination  # pyright: ignore[reportAttributeAccessIssue]
        return next(item[2] for item in choices.DESTINATIONS if item[0] == chosen)

    def execute(self, context: bpy.types.Context) -> set[str]:
        entry = self.entry(context)
        if entry is None or entry.image is None:
            self.report({"ERROR"}, "This result is no longer in the file. Choose another one.")
            return {"CANCELLED"}
        try:
            arrivals.apply(entry, self.destination, jobs.selected_surfaces(context))
        except FailureError as error:
            return jobs.fail(self, error.failure)
        return {"FINISHED"}


class GRISAILLE_OT_result_settings(_OnResult, bpy.types.Operator):
    """Set prompt, size, seed, steps and controls as they were for this picture"""

    bl_idname = "grisaille.result_settings"
    bl_label = "Use Its Settings"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        entry = self.entry(context)
        if entry is None:
            return {"CANCELLED"}
        try:
            settings.from_request(settings.of(context.scene), history.request_of(entry))
        except FailureError as error:
            return jobs.fail(self, error.failure)
        return {"FINISHED"}


class GRISAILLE_OT_result_remove(_OnResult, bpy.types.Operator):
    """Remove this picture from the history. Where the scene shows it, it stays"""

    bl_idname = "grisaille.result_remove"
    bl_label = "Remove Result"
    bl_options = {"UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        entry = self.entry(context)
        if entry is None:
            return {"CANCELLED"}
        job_id = entry.job_id
        history.remove(job_id)
        kept.forget(job_id)
        return {"FINISHED"}


class GRISAILLE_OT_results_recover(bpy.types.Operator):
    """Bring pictures of other files, and of work that was never saved, into this file"""

    bl_idname = "grisaille.results_recover"
    bl_label = "Recover"
    bl_options = {"UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        count = arrivals.recover(arrivals.elsewhere())
        self.report({"INFO"}, f"{count} pictures recovered")
        return {"FINISHED"}


class GRISAILLE_OT_results_discard(bpy.types.Operator):
    """Delete from disk the pictures of other files that no saved file holds. This cannot be undone"""

    bl_idname = "grisaille.results_discard"
    bl_label = "Discard"
    bl_options = set()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)  # pyright: ignore[reportReturnType]

    def execute(self, context: bpy.types.Context) -> set[str]:
        for job_id in arrivals.elsewhere():
            kept.forget(job_id)
        return {"FINISHED"}


class GRISAILLE_OT_materials_restore(bpy.types.Operator):
    """Give the selected objects back the materials they had before a picture was projected on them"""

    bl_idname = "grisaille.materials_restore"
    bl_label = "Restore Materials"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        from ..texturing import restore

        if not restore(list(context.view_layer.objects.selected)):
            self.report({"INFO"}, "No selected object has a projected picture")
            return {"CANCELLED"}
        return {"FINISHED"}


class GRISAILLE_OT_failure_dismiss(bpy.types.Operator):
    """Take this message away"""

    bl_idname = "grisaille.failure_dismiss"
    bl_label = "Dismiss"
    bl_options = set()

    def execute(self, context: bpy.types.Context) -> set[str]:
        state.get().failure = None
        return {"FINISHED"}
