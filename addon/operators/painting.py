"""What every operator that starts a job has in common: invoking returns at once, executing waits."""

from __future__ import annotations

from typing import Any

import bpy

from ...backend.wire import FailureError
from .. import state
from . import jobs


class PaintingOperator:
    """Mixed into an operator that says in `order` what it asks for.

    In background no timer fires and nothing would bring the picture: there invoking waits, too.
    """

    bl_options = set[str]()
    """No REGISTER: a slider moved in the Adjust Last Operation panel would start the job again."""

    def order(self, context: bpy.types.Context) -> jobs.Order:
        """What is asked for. Raises `FailureError`."""
        raise NotImplementedError

    def invoke(self: Any, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if bpy.app.background:
            return self.execute(context)
        return self.attempt(lambda: jobs.begin(context, self.order(context)))

    def execute(self: Any, context: bpy.types.Context) -> set[str]:
        return self.attempt(lambda: jobs.run(context, self.order(context)))

    def attempt(self: Any, start: Any) -> set[str]:
        """Calls `start`; a failure is told to the user."""
        try:
            start()
        except FailureError as error:
            return jobs.fail(self, error.failure)
        # What was left out of the capture stands in the panel, too.
        if (note := state.get().failure) is not None:
            self.report({"WARNING"}, str(note))
        return {"FINISHED"}
