"""What a 3D view draws and what Cycles renders are the same, wherever they show the same things."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.addon import looking, scenes


@pytest.mark.parametrize("name", scenes.COINCIDING)
def test_the_drawn_and_the_rendered_capture_agree(name: str, grisaille: ModuleType) -> None:
    looking.need_gpu()
    kind = scenes.COINCIDING[name]
    kind.build()
    drawn = looking.drawn(kind.width, kind.height)
    rendered = looking.rendered(kind.width, kind.height)
    apart = looking.apart(drawn, rendered)
    assert looking.seen_share(rendered) > 0.05
    assert (rendered.line > 0.5).sum() > 100
    assert apart.silhouette_iou >= 0.99, apart
    assert apart.depth_within_percent >= 0.99, apart
    assert apart.normal_median <= 3.0, apart
    assert apart.normal_within_10 >= 0.95, apart
    assert apart.lines_in_common >= 0.8, apart


@pytest.mark.parametrize("name", scenes.COINCIDING)
def test_the_check_of_truths_knows_which_scenes_may_be_drawn(name: str, grisaille: ModuleType) -> None:
    import bpy

    kind = scenes.COINCIDING[name]
    kind.build()
    space, _region = looking.view_3d()
    coincide = looking.module("addon.capture.truths").truths_coincide
    assert coincide(bpy.context.scene, bpy.context.view_layer, space) is kind.drawn_for_render


@pytest.mark.parametrize("by", ["drawn", "rendered"])
def test_depth_and_normals_have_the_units_and_axes_that_are_promised(by: str, grisaille: ModuleType) -> None:
    """A box of side 2, 10 before a camera that looks along +y: its front is at 9, its normal is the camera's z."""
    if by == "drawn":
        looking.need_gpu()
    scenes.empty()
    scenes.camera((0.0, -10.0, 0.0), (0.0, 0.0, 0.0))
    scenes.add("cube", rotation=(0.0, 0.0, 0.0))
    maps = looking.drawn(160, 128) if by == "drawn" else looking.rendered(160, 128)
    front = np.isfinite(maps.depth)
    assert front[64, 80] and not front[2, 2]
    # Planar depth: the same at the face's middle and corner.
    assert np.abs(maps.depth[front] - 9.0).max() < 1e-3
    assert np.abs(maps.normal[front] - (0.0, 0.0, 1.0)).max() < 0.01
    assert not maps.normal[~front].any()


@pytest.mark.parametrize("by", ["drawn", "rendered"])
def test_normals_point_right_up_and_towards_the_camera(by: str, grisaille: ModuleType) -> None:
    if by == "drawn":
        looking.need_gpu()
    scenes.empty()
    item = scenes.camera((0.0, -10.0, 0.0), (0.0, 0.0, 0.0))
    item.data.type, item.data.ortho_scale = "ORTHO", 2.2
    scenes.add("uv_sphere", smooth=True, segments=96, ring_count=64)
    maps = looking.drawn(200, 200) if by == "drawn" else looking.rendered(200, 200)
    y, x = np.mgrid[0:200, 0:200]
    across, up = ((x + 0.5) / 100 - 1) * 1.1, (1 - (y + 0.5) / 100) * 1.1
    inside = across**2 + up**2 < 0.8
    wanted = np.stack([across, up, np.sqrt(np.maximum(0.0, 1 - across**2 - up**2))], axis=-1)
    assert np.abs(maps.normal[inside] - wanted[inside]).max() < 0.05
    assert np.abs(maps.depth[inside] - (10.0 - wanted[inside][:, 2])).max() < 0.02


def test_a_flipped_matcap_does_not_mirror_the_normals(grisaille: ModuleType) -> None:
    import bpy

    looking.need_gpu()
    scenes.still_life()
    straight = looking.drawn(256, 192)
    space, region = looking.view_3d()
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    with bpy.context.temp_override(window=window, area=area, region=region):
        space.shading.light = "MATCAP"
        assert bpy.ops.view3d.toggle_matcap_flip() == {"FINISHED"}
    assert looking.apart(looking.drawn(256, 192), straight).normal_median < 0.5


@pytest.mark.parametrize("mode", ["VERTEX_PAINT", "TEXTURE_PAINT"])
def test_painted_colours_do_not_get_into_the_normals(mode: str, grisaille: ModuleType) -> None:
    import bpy

    looking.need_gpu()
    scenes.still_life()
    bpy.ops.object.shade_flat()
    plain = looking.drawn(256, 192)
    paint = bpy.context.object.data.color_attributes.new("paint", "BYTE_COLOR", "CORNER")
    for corner in paint.data:
        corner.color = (1.0, 0.0, 0.0, 1.0)
    bpy.ops.object.mode_set(mode=mode)
    assert looking.apart(looking.drawn(256, 192), plain).normal_within_10 > 0.9
