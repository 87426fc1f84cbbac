"""A View says where a picture was seen from: its matrices put every pixel back into the world."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from tests.addon import looking, scenes


def world_points(capture: Any) -> np.ndarray:
    """The world positions of all pixels that are not sky, by the View and the depth alone."""
    view, depth = capture.view, capture.maps.depth
    height, width = depth.shape
    projection = np.array(view.projection).reshape(4, 4)
    y, x = np.nonzero(np.isfinite(depth))
    far = depth[y, x].astype(float)
    across, up = (x + 0.5) / width * 2 - 1, 1 - (y + 0.5) / height * 2
    w = np.full_like(far, 1.0) if view.is_orthographic else far
    seen = np.stack(
        [
            (across * w - projection[0, 3] + projection[0, 2] * far) / projection[0, 0],
            (up * w - projection[1, 3] + projection[1, 2] * far) / projection[1, 1],
            -far,
            np.ones_like(far),
        ]
    )
    return (np.linalg.inv(np.array(view.world_to_view).reshape(4, 4)) @ seen)[:3].T


def check_on_surfaces(points: np.ndarray) -> None:
    """All points lie on the floor z = 0 or on the unit sphere at (0.5, -0.3, 1)."""
    floor = np.abs(points[:, 2])
    sphere = np.abs(np.linalg.norm(points - (0.5, -0.3, 1.0), axis=1) - 1.0)
    assert np.percentile(np.minimum(floor, sphere), 99) < 0.02
    assert (sphere < 0.02).sum() > 100 and (floor < 0.02).sum() > 100


def floor_and_ball() -> None:
    scenes.empty()
    scenes.camera((4.0, -6.0, 4.0))
    scenes.add("plane", size=6)
    scenes.add("uv_sphere", smooth=True, location=(0.5, -0.3, 1.0), segments=96, ring_count=48)


@pytest.mark.parametrize("lens", ["perspective", "shifted", "orthographic"])
def test_a_cameras_view_puts_pixels_back_into_the_world(lens: str, grisaille: ModuleType) -> None:
    floor_and_ball()
    camera = bpy.context.scene.camera.data
    if lens == "shifted":
        camera.shift_x, camera.shift_y = 0.2, -0.1
    if lens == "orthographic":
        camera.type, camera.ortho_scale = "ORTHO", 8.0
    capture = looking.module("addon.capture").capture_camera(bpy.context, 240, 160, ("depth",))
    check_on_surfaces(world_points(capture))


@pytest.mark.parametrize("size", [(320, 160), (160, 320), (200, 200)])
@pytest.mark.parametrize("perspective", ["PERSP", "ORTHO", "CAMERA"])
def test_a_3d_views_view_puts_pixels_back_into_the_world(
    perspective: str, size: tuple[int, int], grisaille: ModuleType
) -> None:
    looking.need_gpu()
    floor_and_ball()
    space, region = looking.view_3d()
    space.region_3d.view_perspective = perspective
    space.region_3d.view_location, space.region_3d.view_distance = (0.0, 0.0, 0.5), 9.0
    capture = looking.module("addon.capture").capture_viewport(bpy.context, space, region, *size, looking.ALL)
    assert capture.maps.depth[np.isfinite(capture.maps.depth)].min() > 0
    check_on_surfaces(world_points(capture))
    assert capture.view.kind == "viewport"
    assert capture.view.camera_name == ("Camera" if perspective == "CAMERA" else "")


def test_looking_through_the_camera_a_3d_view_shows_the_cameras_frame(grisaille: ModuleType) -> None:
    looking.need_gpu()
    scenes.still_life()
    space, region = looking.view_3d()
    space.region_3d.view_perspective = "CAMERA"
    maps = looking.module("addon.capture").capture_viewport(bpy.context, space, region, 256, 192, looking.ALL).maps
    assert np.array_equal(maps.depth, looking.drawn(256, 192).depth)


def test_an_orthographic_3d_view_goes_back_until_all_is_in_front(grisaille: ModuleType) -> None:
    """Moved 20 units into its own depth, its plane lies behind the scene; the picture is the same."""
    looking.need_gpu()
    floor_and_ball()
    space, region = looking.view_3d()
    state = space.region_3d
    state.view_perspective, state.view_location, state.view_distance = "ORTHO", (0.0, 0.0, 0.5), 6.0
    capture_viewport = looking.module("addon.capture").capture_viewport
    before = capture_viewport(bpy.context, space, region, 240, 160, looking.ALL)
    state.view_location = Vector((0.0, 0.0, 0.5)) + state.view_rotation @ Vector((0.0, 0.0, -20.0))
    behind = capture_viewport(bpy.context, space, region, 240, 160, looking.ALL)
    assert behind.maps.depth.min() == pytest.approx(state.view_distance, abs=1e-3)
    both = np.isfinite(before.maps.depth)
    assert both.any() and np.array_equal(both, np.isfinite(behind.maps.depth))
    assert np.ptp(before.maps.depth[both] - behind.maps.depth[both]) < 1e-3
    check_on_surfaces(world_points(behind))
    assert np.abs(before.maps.line - behind.maps.line).mean() < 1e-3


def test_the_crop_is_the_middle_of_the_region_at_the_pictures_aspect(grisaille: ModuleType) -> None:
    scenes.still_life()
    space, region = looking.view_3d()
    space.region_3d.view_perspective = "PERSP"
    layer = bpy.context.view_layer
    view_of = looking.module("addon.capture").view_of_viewport
    square = view_of(space, region, layer.depsgraph, bpy.context.scene, 512, 512)
    same = view_of(space, region, layer.depsgraph, bpy.context.scene, region.width, region.height)
    tall = view_of(space, region, layer.depsgraph, bpy.context.scene, 100, 1000)
    aspect = region.width / region.height
    assert same.crop == pytest.approx((0.0, 0.0, 1.0, 1.0))
    assert square.crop == pytest.approx((0.5 - 0.5 / aspect, 0.0, 0.5 + 0.5 / aspect, 1.0))
    assert tall.crop[2] - tall.crop[0] == pytest.approx(0.1 / aspect)
    # Pixels are square: the same angle across and up.
    for view in (square, same, tall):
        assert view.projection[0] * view.width == pytest.approx(view.projection[5] * view.height, rel=1e-5)
    # What the crop keeps is magnified by what it leaves out.
    assert square.projection[0] == pytest.approx(same.projection[0] * aspect, rel=1e-5)
    assert square.projection[5] == pytest.approx(same.projection[5], rel=1e-5)


def test_without_a_window_the_regions_matrices_are_those_blender_saved(grisaille: ModuleType) -> None:
    """The factory file holds the matrices that its window had when it was saved."""
    bpy.ops.wm.read_homefile(use_empty=False, use_factory_startup=True)
    space, region = looking.view_3d()
    state = space.region_3d
    module = looking.module("addon.capture.view")
    ours = module._region_projection(state, space, region.width, region.height)
    # The saved one is of a region of another shape: what counts is the longer side, the clip and the last row.
    assert ours[0][0] == pytest.approx(state.window_matrix[0][0], rel=1e-3)
    for row, column in ((2, 2), (2, 3), (3, 2), (3, 3)):
        assert ours[row][column] == pytest.approx(state.window_matrix[row][column], abs=1e-4)
    difference = module._region_world_to_view(state) - state.view_matrix
    assert max(abs(value) for row in difference for value in row) < 0.05
    assert isinstance(ours, Matrix)


def test_a_view_survives_json(grisaille: ModuleType) -> None:
    scenes.still_life()
    package = looking.module("addon.capture")
    view = package.view_of_camera(
        bpy.context.scene.camera, bpy.context.view_layer.depsgraph, bpy.context.scene, 640, 480
    )
    assert package.View.from_json(json.loads(json.dumps(view.to_json()))) == view


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", "640"),
        ("projection", [1.0] * 15),
        ("world_to_view", ["a"] * 16),
        ("kind", "window"),
        ("view_perspective", 3),
        ("lens", None),
        ("extra", 1),
    ],
)
def test_a_view_that_was_tampered_with_is_refused(field: str, value: object, grisaille: ModuleType) -> None:
    scenes.still_life()
    package = looking.module("addon.capture")
    view = package.view_of_camera(
        bpy.context.scene.camera, bpy.context.view_layer.depsgraph, bpy.context.scene, 640, 480
    )
    with pytest.raises(ValueError):
        package.View.from_json({**view.to_json(), field: value})
