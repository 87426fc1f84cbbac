"""Go to View: look at the scene from where a result was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from mathutils import Quaternion, Vector

from ...backend.wire import FailureError
from ..results import history, origin
from . import jobs

if TYPE_CHECKING:
    from ..capture import View

SENSOR = 36.0
"""Millimetres: half the width that a 3D view's lens is reckoned with, along the region's longer side."""
MOVED = 1e-4
"""The difference between two view matrices, in any number, from which on the camera counts as moved."""


class GRISAILLE_OT_view_restore(bpy.types.Operator):
    """Look at the scene from where this picture was seen"""

    bl_idname = "grisaille.view_restore"
    bl_label = "Go to View"
    bl_options = set()

    job_id: bpy.props.StringProperty(name="Job", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if jobs.find_view(context) is None:
            cls.poll_message_set("There is no 3D view")
            return False
        if context.scene is None or not len(history.of(context.scene)):
            cls.poll_message_set("There is no result yet")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        entry = history.entry_of(self.job_id) if self.job_id else history.active(context.scene)
        found = jobs.find_view(context)
        if entry is None or found is None:
            return {"CANCELLED"}
        try:
            look_from(*found, origin.view_of(history.origin_of(entry)), context.scene)
        except FailureError as error:
            return jobs.fail(self, error.failure)
        return {"FINISHED"}


def look_from(space: Any, region: Any, view: View, scene: bpy.types.Scene) -> None:
    """Turns a 3D view to `view`: through the camera where it still stands there, else freely. No object is moved."""
    region_3d = space.region_3d
    if view.kind == "viewport" and view.view_perspective != "CAMERA":
        region_3d.view_perspective = view.view_perspective
        region_3d.view_location = view.view_location
        region_3d.view_rotation = view.view_rotation
        region_3d.view_distance = view.view_distance
        space.lens = view.lens
        space.clip_start, space.clip_end = view.clip_start, view.clip_end
        return
    camera = bpy.data.objects.get(view.camera_name)
    if camera is not None and camera.type == "CAMERA" and _stands(camera, view):
        if camera != scene.camera:
            space.use_local_camera, space.camera = True, camera
        elif space.use_local_camera:
            space.use_local_camera = False
        region_3d.view_perspective = "CAMERA"
        return
    _look_freely(space, region, view)


def _stands(camera: bpy.types.Object, view: View) -> bool:
    now, then = camera.matrix_world.normalized().inverted_safe(), view.world_to_view_matrix()
    return all(abs(now[i][j] - then[i][j]) < MOVED for i in range(3) for j in range(4))


def _look_freely(space: Any, region: Any, view: View) -> None:
    """Sets place, direction and lens so that the picture's frame just fits in the region."""
    region_3d = space.region_3d
    projection = view.projection_matrix()
    across, up = 1.0 / projection[0][0], 1.0 / projection[1][1]
    longer = max(region.width, region.height)
    half = max(across * longer / region.width, up * longer / region.height)
    place = view.world_to_view_matrix().inverted_safe()
    space.clip_start, space.clip_end = view.clip_start, view.clip_end
    if view.is_orthographic:
        region_3d.view_perspective = "ORTHO"
        distance = half * space.lens / SENSOR
    else:
        region_3d.view_perspective = "PERSP"
        space.lens = min(250.0, max(1.0, SENSOR / half))
        distance = max(view.view_distance, view.clip_start)
    rotation: Quaternion = place.to_quaternion()
    region_3d.view_rotation = rotation
    region_3d.view_distance = distance
    region_3d.view_location = place.translation + rotation @ Vector((0.0, 0.0, -distance))
