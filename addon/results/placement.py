"""Puts a picture in the scene: behind a camera's view, or hung in space where it fills the view it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from mathutils import Matrix, Vector

from ...backend.wire import FailureError, FailureKind

if TYPE_CHECKING:
    from ..capture import View

HANG_DISTANCE = 5.0
"""In scene units, where nothing tells how far the nearest thing is."""


def frame_at(view: View, distance: float) -> tuple[Vector, float, float]:
    """The centre (view space), width and height (scene units) of the picture's frame at a distance before the view."""
    rows = view.projection_matrix()
    w = rows[3][3] - rows[3][2] * distance  # 1 when orthographic, the distance when perspective
    across, up = w / rows[0][0], w / rows[1][1]
    x = (rows[0][2] * distance - rows[0][3]) / rows[0][0]
    y = (rows[1][2] * distance - rows[1][3]) / rows[1][1]
    return Vector((x, y, -distance)), 2.0 * across, 2.0 * up


def as_image_empty(image: bpy.types.Image, view: View, distance: float, scene: bpy.types.Scene) -> bpy.types.Object:
    """An image empty that fills the view's frame, just before the nearest thing, and turns its back elsewhere.

    distance: from the view's point to the nearest thing, in scene units; 0 where it is not known.
    """
    away = distance * 0.98 if distance > 0.0 else HANG_DISTANCE
    centre, width, height = frame_at(view, away)
    empty: Any = bpy.data.objects.new(image.name, None)
    empty.empty_display_type = "IMAGE"
    empty.data = image
    empty.empty_display_size = max(width, height)
    empty.empty_image_offset = (-0.5, -0.5)
    empty.empty_image_side = "FRONT"
    # Blender draws the longer side in pixels as long as the display size. Pixels need not be square.
    unit = empty.empty_display_size / max(view.width, view.height)
    stretch = Matrix.Diagonal((width / (unit * view.width), height / (unit * view.height), 1.0, 1.0))
    empty.matrix_world = view.world_to_view_matrix().inverted_safe() @ Matrix.Translation(tuple(centre[:])) @ stretch
    scene.collection.objects.link(empty)
    return empty


def as_camera_background(image: bpy.types.Image, view: View) -> bpy.types.Object:
    """Shows the picture behind the view of the camera it came from. Raises `FailureError` when that is gone."""
    camera = bpy.data.objects.get(view.camera_name) if view.camera_name else None
    if camera is None or not isinstance(camera.data, bpy.types.Camera):
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            "This picture does not come from a camera that is still in the file.",
            "Set View to Camera and generate again, or hang it in the scene as an image empty.",
        )
    data: Any = camera.data
    data.show_background_images = True
    background = next((b for b in data.background_images if b.image == image), None)
    background = background or data.background_images.new()
    background.source = "IMAGE"
    background.image = image
    background.alpha = 1.0
    background.display_depth = "BACK"
    background.frame_method = frame_method(data.sensor_fit, view, bpy.context.scene.render)
    return camera


def frame_method(sensor_fit: str, view: View, render: bpy.types.RenderSettings) -> str:
    """How Blender must scale a picture to lie on the camera's frame when their shapes differ by the snapping to 16.

    A camera's view keeps its extent along the side that its sensor is fitted to; the picture has more or less
    along the other.
    """
    across = render.resolution_x * render.pixel_aspect_x
    up = render.resolution_y * render.pixel_aspect_y
    by_width = sensor_fit == "HORIZONTAL" or (sensor_fit == "AUTO" and view.width >= view.height)
    taller = view.height * across >= up * view.width
    return "CROP" if by_width == taller else "FIT"
