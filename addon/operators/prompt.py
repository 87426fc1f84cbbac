"""Show Prompt: the words that the model will read, before anything is painted."""

from __future__ import annotations

import bpy

from .. import state
from . import jobs
from .painting import PaintingOperator


class GRISAILLE_OT_show_prompt(PaintingOperator, bpy.types.Operator):
    """Show the prompt that the model will read: with its choices made, the style's words added, and cut to length"""

    bl_idname = "grisaille.show_prompt"
    bl_label = "Show Prompt"

    def order(self, context: bpy.types.Context) -> jobs.Order:
        return jobs.show_prompt_order(jobs.order_from_settings(context))

    def execute(self, context: bpy.types.Context) -> set[str]:
        done = super().execute(context)
        shown = state.get().shown_prompt
        if done == {"FINISHED"} and shown is not None:
            self.report({"INFO"}, shown.prompt)
        return done
