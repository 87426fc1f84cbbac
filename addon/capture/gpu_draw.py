"""One draw of Blender's viewport that gives depth and normals together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import gpu
import numpy as np
from numpy.typing import NDArray

from .decode import FloatArray, camera_normals, normals_of_depth, planar_depth
from .errors import capture_error
from .view import View

NORMAL_MATCAP = "check_normal+y.exr"
SOLID_NORMALS = {
    "type": "SOLID",
    "light": "MATCAP",
    "studio_light": NORMAL_MATCAP,
    "color_type": "SINGLE",
    "single_color": (1.0, 1.0, 1.0),
    "show_object_outline": False,
    "show_backface_culling": False,
    "show_cavity": False,
    "show_shadows": False,
    "show_xray": False,
    "show_specular_highlight": False,
    "use_dof": False,
}
"""The shading under which a pixel's colour is its normal, and nothing else."""
NOT_SURFACES = ("show_object_viewport_grease_pencil", "show_object_viewport_volume", "show_gizmo")
"""Drawn over the picture in colours of their own."""


def draw_depth_and_normals(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    space: bpy.types.SpaceView3D,
    region: bpy.types.Region,
    view: View,
) -> tuple[FloatArray, FloatArray]:
    """Depth (height, width) and camera-space normals (height, width, 3) of what the 3D view shows from `view`.

    Units and axes as in `ControlMaps`. The 3D view's settings are the same after as before, also on an error.
    Raises `FailureError` (capture_failed) when the graphics card has no room for the picture.
    """
    with shading_that_shows_normals(space), drawn_offscreen(scene, view_layer, space, region, view) as framebuffer:
        window_depth, colour = _read(framebuffer, view.width, view.height)
    depth = planar_depth(window_depth, view.projection)
    if _paints_on_surfaces(view_layer):
        return depth, normals_of_depth(depth, view.projection)
    return depth, camera_normals(colour, depth, view.projection)


def draw_colour(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    space: bpy.types.SpaceView3D,
    region: bpy.types.Region,
    view: View,
) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 display values of what the 3D view shows from `view`, in its own shading.

    Wireframes are shown solid, and what Cycles would have to render first as Material Preview. The 3D view's settings
    are the same after as before. Raises `FailureError` (capture_failed).
    """
    shading: Any = space.shading
    kind = {"WIREFRAME": "SOLID"}.get(shading.type, shading.type)
    if kind == "RENDERED" and scene.render.engine == "CYCLES":
        kind = "MATERIAL"
    wanted = [(shading, "type", kind), (space.overlay, "show_overlays", False), (space, "show_gizmo", False)]
    with values_for_now(wanted), drawn_offscreen(scene, view_layer, space, region, view, is_shown=True) as framebuffer:
        pixels = framebuffer.read_color(0, 0, view.width, view.height, 4, 0, "UBYTE")
    colour = np.asarray(pixels, np.uint8).reshape(view.height, view.width, 4)
    return np.ascontiguousarray(colour[::-1, :, :3])


@contextmanager
def drawn_offscreen(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    space: bpy.types.SpaceView3D,
    region: bpy.types.Region,
    view: View,
    is_shown: bool = False,
) -> Iterator[Any]:
    """A framebuffer with the 3D view drawn into it: plain values, or (`is_shown`) as on the screen, with its ground."""
    try:
        offscreen = gpu.types.GPUOffScreen(view.width, view.height, format="RGBA8" if is_shown else "RGBA16F")
    except (RuntimeError, SystemError) as error:
        raise capture_error(
            "The graphics card could not make a picture of this size.", "Choose a smaller size.", str(error)
        ) from error
    try:
        offscreen.draw_view3d(
            scene,
            view_layer,
            space,
            region,
            view.world_to_view_matrix(),
            view.projection_matrix(),
            do_color_management=is_shown,
            draw_background=is_shown,
        )
        bound: Any = offscreen.bind()
        with bound:
            yield gpu.state.active_framebuffer_get()
    finally:
        offscreen.free()


def _paints_on_surfaces(view_layer: bpy.types.ViewLayer) -> bool:
    """In these modes Blender draws the painted colours whatever the shading says: normals come from the depth."""
    active = view_layer.objects.active
    return active is not None and active.mode in ("VERTEX_PAINT", "TEXTURE_PAINT")


def _read(framebuffer: Any, width: int, height: int) -> tuple[FloatArray, FloatArray]:
    depth = np.asarray(framebuffer.read_depth(0, 0, width, height), np.float32)
    colour = np.asarray(framebuffer.read_color(0, 0, width, height, 4, 0, "FLOAT"), np.float32)
    return depth.reshape(height, width)[::-1], colour.reshape(height, width, 4)[::-1]


@contextmanager
def shading_that_shows_normals(space: bpy.types.SpaceView3D) -> Iterator[None]:
    """Lends a 3D view `SOLID_NORMALS` and hides what is no surface. All is as it was afterwards, also on an error."""
    preferences = bpy.context.preferences
    were_changed = preferences.is_dirty
    wanted: list[tuple[Any, str, Any]] = [(space.shading, name, value) for name, value in SOLID_NORMALS.items()]
    wanted += [(space, name, False) for name in NOT_SURFACES]
    # Blended edges would be neither surface's normal.
    wanted += [(space.overlay, "show_overlays", False), (preferences.system, "viewport_aa", "OFF")]
    try:
        with values_for_now(wanted):
            yield
    except TypeError as error:
        raise capture_error(
            "This Blender's normal matcap is missing.",
            "Reinstall Blender, or capture through a camera instead.",
            str(error),
        ) from error
    finally:
        preferences.is_dirty = were_changed


@contextmanager
def values_for_now(wanted: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Sets (owner, property, value) in order, and puts the old values back in the opposite order."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, value in wanted:
            old = getattr(owner, name)
            old = old if isinstance(old, str | bool | int | float) else tuple(old)
            if old != value:
                setattr(owner, name, value)
                before.append((owner, name, old))
        yield
    finally:
        for owner, name, old in reversed(before):
            # An enum that names a matcap which is gone reads as nothing, and cannot be set to it.
            if old != "":
                setattr(owner, name, old)
