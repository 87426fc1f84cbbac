"""The two verbs of this room: capture what a 3D view shows, capture what a camera renders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import bpy
import numpy as np
from numpy.typing import NDArray

from ...backend.wire import CONTROL_KINDS, ControlMaps, Failure
from ...backend.wire.lines import lines_from_maps
from ...backend.wire.maps import MAPS_OF
from .. import compat
from .colour_render import render_colour
from .cycles_render import render_maps
from .decode import FloatArray
from .errors import capture_error
from .pose import People, find_people, is_rendered, pose_map
from .truths import truths_coincide
from .view import View, view_of_camera, view_of_viewport

LineSource = Literal["edges", "freestyle"]
SIDE_MAX = 16384
"""Pixels; what graphics cards and Blender's renders stop at."""


@dataclass(frozen=True)
class Capture:
    """The maps of one look at the scene, and where it was seen from. note: what was left out, for the user to know."""

    maps: ControlMaps
    view: View
    note: Failure | None = None


def capture_viewport(
    context: bpy.types.Context,
    space: bpy.types.SpaceView3D,
    region: bpy.types.Region,
    width: int,
    height: int,
    kinds: Iterable[str],
) -> Capture:
    """What this 3D view shows (viewport truth), as the maps that controls of `kinds` need, at a size in pixels.

    Visibility, local view and modifier levels are the viewport's; what is edited or sculpted is shown as it is now.
    Raises `FailureError` (capture_failed) where nothing can be drawn.
    """
    wanted = _checked(kinds, width, height)
    if space is None or region is None or space.type != "VIEW_3D":
        raise capture_error("There is no 3D view to capture.", "Open a 3D view, or capture through a camera instead.")
    if not compat.gpu_context(start=True):
        raise capture_error("This Blender cannot draw a 3D view without a window.", "Capture through a camera instead.")
    from .gpu_draw import draw_colour, draw_depth_and_normals

    scene, view_layer = context.scene, context.view_layer
    view_layer.update()
    view = view_of_viewport(space, region, view_layer.depsgraph, scene, width, height)
    people = find_people(view_layer, lambda item: item.visible_in_viewport_get(space)) if "pose" in wanted else None
    depth, normal = draw_depth_and_normals(scene, view_layer, space, region, view)
    colour = draw_colour(scene, view_layer, space, region, view) if "colour" in wanted else None
    if view.is_orthographic and view.view_perspective != "CAMERA":
        depth, view = _in_front(depth, view)
    return _finished(depth, normal, view, wanted, colour=colour, people=people)


def _in_front(depth: FloatArray, view: View) -> tuple[FloatArray, View]:
    """An orthographic 3D view shows what lies behind its plane too: the plane goes back until all depths are positive.

    The nearest surface then is at the view's distance.
    """
    nearest = float(depth.min(initial=np.inf))
    if nearest >= view.clip_start or not np.isfinite(nearest):
        return depth, view
    back = view.view_distance - nearest
    return depth + np.float32(back), view.moved_back(back)


def capture_camera(
    context: bpy.types.Context,
    width: int,
    height: int,
    kinds: Iterable[str],
    camera: bpy.types.Object | str | None = None,
    line_source: LineSource = "edges",
    scene: Any = None,
    view_layer: Any = None,
) -> Capture:
    """What a camera would render (render truth), as the maps that controls of `kinds` need, at a size in pixels.

    camera: an object or its name; the scene's camera when None. scene, view_layer: the context's when None; a view
    layer is named within the scene. Drawn on the GPU where a 3D view shows the same as the render, else rendered by
    Cycles. line_source: "edges" of depth and normals, or "freestyle", which costs seconds on dense scenes.
    Colours are always rendered, by a few Cycles samples: a 3D view is lit in its own way.
    Raises `FailureError` (capture_failed): no such camera or layer, a render in the way, a render that failed.
    """
    wanted = _checked(kinds, width, height)
    scene = scene or context.scene
    layer = _view_layer(context, scene, view_layer)
    layer.update()
    lens = _camera(scene, camera)
    view = view_of_camera(lens, layer.depsgraph, scene, width, height)
    freestyle = line_source == "freestyle" and "line" in wanted
    people = find_people(layer, is_rendered(layer)) if "pose" in wanted else None
    geometry = None if freestyle or wanted == {"colour"} else _drawn(context, scene, layer, view)
    if (geometry is None or "colour" in wanted) and compat.is_rendering():
        raise capture_error(
            "Blender is rendering, and this scene needs a render of its own for its capture.",
            "Wait for the render to end, or capture the 3D view instead.",
        )
    colour = render_colour(scene, layer, lens, view) if "colour" in wanted else None
    if wanted == {"colour"}:
        return _finished(None, None, view, wanted, colour=colour)
    depth, normal, line = (*geometry, None) if geometry else render_maps(scene, layer, lens, view, freestyle)
    return _finished(depth, normal, view, wanted, line, colour, people)


def _drawn(
    context: bpy.types.Context, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, view: View
) -> tuple[FloatArray, FloatArray] | None:
    """Depth and normals drawn in an open 3D view, or None where that is not the render's truth."""
    if not compat.gpu_context():
        return None
    # Any window's will do: a timer has no screen of its own, and a render that runs has a window without 3D views.
    screens = [context.screen, *(window.screen for window in context.window_manager.windows)]
    for area in (area for screen in screens if screen for area in screen.areas):
        region = next((region for region in area.regions if region.type == "WINDOW"), None)
        if area.type != "VIEW_3D" or region is None:
            continue
        space = area.spaces.active
        if truths_coincide(scene, view_layer, space):
            from .gpu_draw import draw_depth_and_normals

            return draw_depth_and_normals(scene, view_layer, space, region, view)
    return None


def _finished(
    depth: FloatArray | None,
    normal: FloatArray | None,
    view: View,
    wanted: frozenset[str],
    line: FloatArray | None = None,
    colour: NDArray[np.uint8] | None = None,
    people: People | None = None,
) -> Capture:
    if "line" in wanted and line is None and depth is not None and normal is not None:
        line = lines_from_maps(depth, normal, view.projection)
    maps = ControlMaps(
        depth=depth if "depth" in wanted else None,
        normal=normal if "normal" in wanted else None,
        line=line,
        colour=colour,
        pose=pose_map(people, view, depth) if people is not None and depth is not None else None,
    )
    maps.check(view.width, view.height)
    return Capture(maps, view, people.note if people is not None else None)


def _checked(kinds: Iterable[str], width: int, height: int) -> frozenset[str]:
    """The maps that these kinds of control need: the best that each can be made of."""
    wanted = frozenset(kinds)
    unknown = sorted(wanted - set(CONTROL_KINDS))
    if unknown:
        raise capture_error(f"There is no control called {unknown[0]!r}.", f"Use {', '.join(CONTROL_KINDS)}.")
    if not (0 < width <= SIDE_MAX and 0 < height <= SIDE_MAX):
        raise capture_error(
            f"A capture of {width} x {height} pixels cannot be made.", f"Choose sides of 1 to {SIDE_MAX} pixels."
        )
    return frozenset(MAPS_OF[kind][0] for kind in wanted)


def _view_layer(context: bpy.types.Context, scene: bpy.types.Scene, wanted: Any) -> Any:
    name = wanted if isinstance(wanted, str) or wanted is None else wanted.name
    if name is None:
        return context.view_layer if scene == context.scene else scene.view_layers[0]
    layer = scene.view_layers.get(name)
    if layer is None:
        raise capture_error(
            f"The scene {scene.name} has no view layer called {name!r}.",
            f"Use {', '.join(layer.name for layer in scene.view_layers)}.",
        )
    return layer


def _camera(scene: bpy.types.Scene, wanted: bpy.types.Object | str | None) -> bpy.types.Object:
    if wanted is None:
        if scene.camera is None:
            raise capture_error(f"The scene {scene.name} has no camera.", "Add a camera, or capture the 3D view.")
        wanted = scene.camera
    name = wanted if isinstance(wanted, str) else wanted.name
    camera = scene.objects.get(name)
    if camera is None or camera.type != "CAMERA":
        cameras = [item.name for item in scene.objects if item.type == "CAMERA"]
        hint = f"Use {', '.join(cameras)}." if cameras else "Add a camera to the scene."
        raise capture_error(f"The scene {scene.name} has no camera called {name!r}.", hint)
    return camera
