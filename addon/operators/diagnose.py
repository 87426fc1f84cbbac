"""Diagnose: what works of the backend and what does not, shown in the preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy

from ...backend.wire import Failure, FailureError, FailureKind
from .. import preferences, state

if TYPE_CHECKING:
    from ..link.diagnosis import Diagnosed, Diagnosis

POLL_SECONDS = 0.25


class GRISAILLE_OT_diagnose(bpy.types.Operator):
    """Look at the device, the models' files and all else that a picture needs, without stopping Blender"""

    bl_idname = "grisaille.diagnose"
    bl_label = "Diagnose"
    bl_options = set()

    quick: bpy.props.BoolProperty(
        name="Quick", description="Neither compile nor paint a step with each model", options={"SKIP_SAVE"}
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """From a button: returns at once, and a timer shows what was found."""
        try:
            begin(self.quick)
        except FailureError as error:
            self.report({"ERROR"}, str(error.failure))
            return {"CANCELLED"}
        bpy.app.timers.register(look, first_interval=POLL_SECONDS, persistent=True)
        return {"FINISHED"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script: waits for it."""
        try:
            outcome = begin(self.quick).wait()
        except FailureError as error:
            self.report({"ERROR"}, str(error.failure))
            return {"CANCELLED"}
        _keep(outcome)
        if isinstance(outcome, Failure):
            self.report({"ERROR"}, str(outcome))
            return {"CANCELLED"}
        return {"FINISHED"}


class GRISAILLE_OT_diagnosis_copy(bpy.types.Operator):
    """Copy the diagnosis for a bug tracker, without names, folders and prompts"""

    bl_idname = "grisaille.diagnosis_copy"
    bl_label = "Copy Report"
    bl_options = set()

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(getattr(state.get().diagnosed, "report", ""))

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.window_manager.clipboard = getattr(state.get().diagnosed, "report", "")
        self.report({"INFO"}, "The report is on the clipboard.")
        return {"FINISHED"}


class GRISAILLE_OT_diagnosis_cancel(bpy.types.Operator):
    """Stop the diagnosis"""

    bl_idname = "grisaille.diagnosis_cancel"
    bl_label = "Stop"
    bl_options = set()

    def execute(self, context: bpy.types.Context) -> set[str]:
        running = state.get().diagnosis
        if running is None:
            return {"CANCELLED"}
        running.cancel()
        return {"FINISHED"}


def begin(quick: bool) -> Diagnosis:
    """Starts a diagnosis and returns at once. Raises `FailureError`, which the preferences show too."""
    from ..link.diagnosis import Diagnosis

    current = state.get()
    if current.diagnosis is not None:
        raise FailureError.of(FailureKind.BAD_REQUEST, "A diagnosis is being made already.", "Wait for it, or stop it.")
    current.diagnosed = None
    try:
        current.diagnosis = Diagnosis(preferences.backend_place(), quick)
    except FailureError as error:
        current.diagnosed = error.failure
        raise
    return current.diagnosis


def look() -> float | None:
    """The timer's: shows what was found once it is there."""
    running = state.get().diagnosis
    if running is None:
        return None
    if (outcome := running.outcome) is None:
        return POLL_SECONDS
    _keep(outcome)
    return None


def _keep(outcome: Diagnosed | Failure) -> None:
    current = state.get()
    current.diagnosis, current.diagnosed = None, outcome
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "PREFERENCES":
                area.tag_redraw()
