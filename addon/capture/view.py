"""Where a picture was seen from: its matrices, and what is needed to go back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import bpy
from mathutils import Matrix

from .errors import capture_error

Matrix4 = tuple[float, ...]
"""Sixteen numbers, row after row."""

SENSOR_WIDTH = 36.0
"""Millimetres: the sensor of a 3D view that looks through no camera."""
VIEW_ZOOM = 2.0
"""A 3D view shows this many times what a camera with its lens would."""


@dataclass(frozen=True)
class View:
    """What a picture was seen from. Lengths are scene units, the picture is `width` x `height` pixels.

    world_to_view: 4x4, row after row; x right, y up, z towards the viewer. projection: 4x4, row after row,
    view space to clip space (-1..1), shift and pixel aspect included.
    crop: the part of the 3D view's region that the picture shows, as left, bottom, right, top, 0..1.
    The rest puts the 3D view back: view_perspective is "PERSP", "ORTHO" or "CAMERA", view_rotation a quaternion
    (w, x, y, z), lens in millimetres, camera_name the camera looked through, or "".
    """

    kind: Literal["camera", "viewport"]
    camera_name: str
    world_to_view: Matrix4
    projection: Matrix4
    width: int
    height: int
    is_orthographic: bool
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    view_perspective: str = "CAMERA"
    view_location: tuple[float, float, float] = (0.0, 0.0, 0.0)
    view_rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    view_distance: float = 10.0
    lens: float = 50.0
    clip_start: float = 0.01
    clip_end: float = 1000.0

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: object) -> View:
        """The View that `to_json` wrote. Raises `ValueError` on anything else."""
        known = {field.name: field for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != set(known):
            raise ValueError("a view has exactly the fields of View")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        sizes = {"world_to_view": 16, "projection": 16, "crop": 4, "view_location": 3, "view_rotation": 4}
        for name, size in sizes.items():
            value = values[name]
            if not isinstance(value, tuple) or len(value) != size or not all(_is_number(x) for x in value):
                raise ValueError(f"the view's {name} is not {size} numbers")
        for name in ("view_distance", "lens", "clip_start", "clip_end"):
            if not _is_number(values[name]):
                raise ValueError(f"the view's {name} is not a number")
        if type(values["width"]) is not int or type(values["height"]) is not int:
            raise ValueError("the view's size is not whole numbers")
        if values["kind"] not in ("camera", "viewport") or not isinstance(values["camera_name"], str):
            raise ValueError("the view's kind or camera is unknown")
        if (
            values["view_perspective"] not in ("PERSP", "ORTHO", "CAMERA")
            or type(values["is_orthographic"]) is not bool
        ):
            raise ValueError("the view's perspective is unknown")
        return cls(**values)

    def moved_back(self, distance: float) -> View:
        """The same orthographic picture seen from `distance` scene units farther away."""
        world_to_view, projection = list(self.world_to_view), list(self.projection)
        world_to_view[11] -= distance
        projection[11] += projection[10] * distance
        return replace(self, world_to_view=tuple(world_to_view), projection=tuple(projection))

    def world_to_view_matrix(self) -> Matrix:
        return _unflatten(self.world_to_view)

    def projection_matrix(self) -> Matrix:
        return _unflatten(self.projection)


def view_of_camera(
    camera: bpy.types.Object, depsgraph: bpy.types.Depsgraph, scene: bpy.types.Scene, width: int, height: int
) -> View:
    """The view through a camera at a size in pixels, framed as the scene's render would frame it.

    Raises `FailureError` (capture_failed) for a camera with a panoramic or custom lens.
    """
    data = _evaluated_camera(camera, depsgraph)
    if data.type not in ("PERSP", "ORTHO"):
        raise capture_error(
            f"The camera {camera.name} has a {data.type.lower()} lens, which cannot be captured.",
            "Choose a perspective or orthographic camera.",
        )
    render = scene.render
    projection = camera.calc_matrix_camera(
        depsgraph, x=width, y=height, scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y
    )
    place = camera.evaluated_get(depsgraph).matrix_world
    world_to_view = place.normalized().inverted_safe()
    return View(
        kind="camera",
        camera_name=camera.name,
        world_to_view=_flatten(world_to_view),
        projection=_flatten(projection),
        width=width,
        height=height,
        is_orthographic=data.type == "ORTHO",
        view_location=_three(place.translation),
        view_rotation=_four(place.normalized().to_quaternion()),
        lens=float(data.lens),
        clip_start=float(data.clip_start),
        clip_end=float(data.clip_end),
    )


def view_of_viewport(
    space: bpy.types.SpaceView3D,
    region: bpy.types.Region,
    depsgraph: bpy.types.Depsgraph,
    scene: bpy.types.Scene,
    width: int,
    height: int,
) -> View:
    """The view of a 3D view's region at a size in pixels.

    Looking through a camera, it is the camera's frame. Else it is the largest part of the region that has the
    picture's aspect, around the region's centre (`View.crop`): the picture shows nothing that the region does not.
    """
    state = region.data or space.region_3d
    if state is None:
        raise capture_error("This 3D view has no view to capture.", "Move the mouse over a 3D view and try again.")
    camera: Any = space.camera if space.use_local_camera else scene.camera
    looks_through = state.view_perspective == "CAMERA" and camera is not None and camera.type == "CAMERA"
    place = {
        "view_perspective": state.view_perspective,
        "view_location": _three(state.view_location),
        "view_rotation": _four(state.view_rotation),
        "view_distance": float(state.view_distance),
        "lens": float(space.lens),
        "clip_start": float(space.clip_start),
        "clip_end": float(space.clip_end),
    }
    if camera is not None and looks_through:
        view = view_of_camera(camera, depsgraph, scene, width, height)
        return replace(view, **place, kind="viewport")
    across = max(1, region.width)
    up = max(1, region.height)
    keep_x = min(1.0, (width * up) / (height * across))
    keep_y = min(1.0, (height * across) / (width * up))
    projection = _region_projection(state, space, across, up)
    zoom = Matrix.Diagonal((1.0 / keep_x, 1.0 / keep_y, 1.0, 1.0))
    return View(
        kind="viewport",
        camera_name="",
        world_to_view=_flatten(_region_world_to_view(state)),
        projection=_flatten(zoom @ projection),
        width=width,
        height=height,
        is_orthographic=not _is_perspective(state),
        crop=(0.5 - keep_x / 2, 0.5 - keep_y / 2, 0.5 + keep_x / 2, 0.5 + keep_y / 2),
        **place,
    )


def _region_projection(state: Any, space: Any, across: int, up: int) -> Matrix:
    """A window keeps the region's projection up to date. Without one it is made from the view's settings."""
    if not bpy.app.background:
        return state.window_matrix.copy()
    near, far = space.clip_start, space.clip_end
    half = VIEW_ZOOM * 0.5 * SENSOR_WIDTH / space.lens
    half_x, half_y = half * across / max(across, up), half * up / max(across, up)
    projection = Matrix.Identity(4)
    if _is_perspective(state):
        projection[0][0], projection[1][1] = 1.0 / half_x, 1.0 / half_y
        projection[2][2], projection[2][3] = -(far + near) / (far - near), -2.0 * far * near / (far - near)
        projection[3][2], projection[3][3] = -1.0, 0.0
        return projection
    projection[0][0], projection[1][1] = 1.0 / (half_x * state.view_distance), 1.0 / (half_y * state.view_distance)
    # An orthographic 3D view clips as far behind its plane as before it.
    projection[2][2] = -1.0 / far
    return projection


def _is_perspective(state: Any) -> bool:
    """Blender's own flag is kept up to date by a window only."""
    return state.view_perspective != "ORTHO" if bpy.app.background else state.is_perspective


def _region_world_to_view(state: Any) -> Matrix:
    if not bpy.app.background:
        return state.view_matrix.copy()
    turn = state.view_rotation.to_matrix().to_4x4()
    back = Matrix.Translation((0.0, 0.0, state.view_distance))
    return (Matrix.Translation(state.view_location) @ turn @ back).inverted_safe()


def _evaluated_camera(camera: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> Any:
    return camera.evaluated_get(depsgraph).data


def _flatten(matrix: Matrix) -> Matrix4:
    return tuple(float(value) for row in matrix for value in row)


def _unflatten(values: Matrix4) -> Matrix:
    return Matrix([values[row * 4 : row * 4 + 4] for row in range(4)])


def _three(values: Any) -> tuple[float, float, float]:
    x, y, z = values
    return float(x), float(y), float(z)


def _four(values: Any) -> tuple[float, float, float, float]:
    w, x, y, z = values
    return float(w), float(x), float(y), float(z)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
