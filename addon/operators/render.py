"""Render Depth to Image: the active camera's view, from the Render menu."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy

from . import jobs
from .painting import PaintingOperator


class GRISAILLE_OT_render_depth_to_image(PaintingOperator, bpy.types.Operator):
    """Paint what the active camera sees, with the settings of the Grisaille tab, into the Image Editor"""

    bl_idname = "grisaille.render_depth_to_image"
    bl_label = "Render Depth to Image"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.scene is not None and context.scene.camera is not None:
            return True
        cls.poll_message_set("The scene has no active camera")
        return False

    def order(self, context: bpy.types.Context) -> jobs.Order:
        order = jobs.order_from_settings(context, new_seed=True)
        return replace(order, source="CAMERA", destination="IMAGE_EDITOR")


def draw_in_render_menu(self: Any, context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.operator(GRISAILLE_OT_render_depth_to_image.bl_idname, icon="RENDER_STILL")
