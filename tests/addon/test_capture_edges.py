"""Captures at the edges: nothing there, nothing to draw with, another mode, a render under way."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import bpy
import numpy as np
import pytest

from tests.addon import looking, scenes

SIZE = (128, 96)


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expects a capture_failed failure whose message holds the words, and that says what to do next."""
    error_type = looking.module("backend.wire").FailureError
    with pytest.raises(error_type) as caught:
        yield
    failure = caught.value.failure
    assert failure.kind == "capture_failed"
    assert failure.message.endswith(".") and failure.hint.endswith(".")
    for word in words:
        assert word in failure.message + failure.hint


def capture_camera(**options: object) -> object:
    return looking.module("addon.capture").capture_camera(bpy.context, *SIZE, looking.ALL, **options)


def test_an_empty_scene_is_all_sky(grisaille: ModuleType) -> None:
    scenes.empty()
    scenes.camera()
    for maps in [looking.rendered(*SIZE)] + ([looking.drawn(*SIZE)] if gpu() else []):
        assert np.isinf(maps.depth).all() and not maps.normal.any() and not maps.line.any()


def gpu() -> bool:
    return looking.module("addon.compat").gpu_context(start=True)


def test_a_scene_without_a_camera_is_refused(grisaille: ModuleType) -> None:
    scenes.empty()
    scenes.add("cube")
    with refused("no camera", "Add a camera"):
        capture_camera()


def test_a_camera_that_is_not_there_is_refused_with_the_names_of_those_that_are(grisaille: ModuleType) -> None:
    scenes.still_life()
    with refused("'Kamera'", "Use Camera."):
        capture_camera(camera="Kamera")


def test_an_object_that_is_no_camera_is_refused(grisaille: ModuleType) -> None:
    scenes.still_life()
    with refused("'Cube'", "Use Camera."):
        capture_camera(camera="Cube")


def test_another_camera_than_the_scenes_can_be_named(grisaille: ModuleType) -> None:
    scenes.still_life()
    first = bpy.context.scene.camera
    second = scenes.camera((0.0, 0.0, 9.0), (0.0, 0.1, 0.0))
    bpy.context.scene.camera = first
    for wanted in (second, second.name):
        capture = capture_camera(camera=wanted)
        assert capture.view.camera_name == second.name
        assert np.nanmax(np.where(np.isfinite(capture.maps.depth), capture.maps.depth, np.nan)) < 9.2
    assert bpy.context.scene.camera == first


def test_a_view_layer_that_is_not_there_is_refused(grisaille: ModuleType) -> None:
    scenes.still_life()
    with refused("'Foreground'", "ViewLayer"):
        capture_camera(view_layer="Foreground")


def test_another_scene_can_be_captured(grisaille: ModuleType) -> None:
    scenes.still_life()
    other = bpy.data.scenes.new("other")
    other.collection.objects.link(bpy.data.objects["Cube"])
    other.collection.objects.link(bpy.data.objects["Camera"])
    with refused("other", "no camera"):
        capture_camera(scene=other)
    alone = capture_camera(scene=other, camera="Camera")
    assert 0 < looking.seen_share(alone.maps) < looking.seen_share(capture_camera().maps)


def test_a_panoramic_camera_is_refused(grisaille: ModuleType) -> None:
    scenes.still_life()
    bpy.context.scene.camera.data.type = "PANO"
    with refused("pano", "perspective"):
        capture_camera()


@pytest.mark.parametrize("size", [(0, 64), (64, -1), (20_000, 64)])
def test_a_size_that_cannot_be_is_refused(size: tuple[int, int], grisaille: ModuleType) -> None:
    scenes.still_life()
    with refused(f"{size[0]} x {size[1]}"):
        looking.module("addon.capture").capture_camera(bpy.context, *size, ("depth",))


def test_a_map_that_does_not_exist_is_refused(grisaille: ModuleType) -> None:
    scenes.still_life()
    with refused("'heat'"):
        looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("depth", "heat"))


def test_only_the_maps_asked_for_are_there(grisaille: ModuleType) -> None:
    scenes.still_life()
    capture = looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("line",))
    assert set(capture.maps.arrays()) == {"line"}
    assert (capture.view.width, capture.view.height) == SIZE


def test_without_a_3d_view_the_viewport_is_refused(grisaille: ModuleType) -> None:
    scenes.still_life()
    with refused("no 3D view"):
        looking.module("addon.capture").capture_viewport(bpy.context, None, None, *SIZE, looking.ALL)


def test_without_a_gpu_the_viewport_is_refused_and_the_camera_works(
    grisaille: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Blender 4.5 this is so in background; elsewhere the test takes the GPU away."""
    scenes.still_life()
    space, region = looking.view_3d()
    if gpu():
        monkeypatch.setattr(looking.module("addon.compat"), "gpu_context", lambda start=False: False)
    with refused("without a window"):
        looking.module("addon.capture").capture_viewport(bpy.context, space, region, *SIZE, looking.ALL)
    assert looking.seen_share(capture_camera().maps) > 0.1


@pytest.mark.parametrize("mode", ["EDIT", "SCULPT"])
def test_what_is_edited_or_sculpted_is_captured_as_it_is_now(mode: str, grisaille: ModuleType) -> None:
    import bmesh  # The wheel's bmesh can be imported after bpy only.

    scenes.empty()
    scenes.camera((0.0, -12.0, 0.0), (0.0, 0.0, 0.0))
    cube = scenes.add("cube")
    before = looking.rendered(*SIZE)
    bpy.ops.object.mode_set(mode=mode)
    if mode == "EDIT":
        edited = bmesh.from_edit_mesh(cube.data)
        for vertex in edited.verts:
            vertex.co.y -= 2.0
        bmesh.update_edit_mesh(cube.data)
    else:
        assert bpy.ops.sculpt.mesh_filter.poll()
        for vertex in cube.data.vertices:
            vertex.co.y -= 2.0
        cube.data.update()
    for maps in [looking.rendered(*SIZE)] + ([looking.drawn(*SIZE)] if gpu() else []):
        assert maps.depth.min() == pytest.approx(before.depth.min() - 2.0, abs=1e-3)
    assert cube.mode == mode


def test_during_a_render_job_the_camera_is_refused_where_it_needs_a_render(
    grisaille: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A render job runs in a window only; here its sign is set by hand."""
    scenes.still_life()
    bpy.data.objects["Cube"].display_type = "WIRE"
    monkeypatch.setattr(looking.module("addon.compat"), "is_rendering", lambda: True)
    with refused("rendering", "Wait"):
        capture_camera()
    if gpu():
        space, region = looking.view_3d()
        maps = looking.module("addon.capture").capture_viewport(bpy.context, space, region, *SIZE, looking.ALL).maps
        assert looking.seen_share(maps) > 0.01


def test_a_capture_from_a_render_handler_leaves_the_render_alone(grisaille: ModuleType) -> None:
    """In background the user's render calls us from its own handler."""
    scenes.still_life()
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 48, 100
    captured = []

    def handler(rendered: bpy.types.Scene, *_: object) -> None:
        if rendered == scene and not captured:
            captured.append(None)
            captured.append(capture_camera())

    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = f"{folder}/picture.png"
        scene.render.image_settings.file_format = "PNG"
        bpy.app.handlers.render_pre.append(handler)
        try:
            assert bpy.ops.render.render(write_still=True) == {"FINISHED"}
        finally:
            bpy.app.handlers.render_pre.remove(handler)
        picture = bpy.data.images.load(scene.render.filepath)
        assert tuple(picture.size) == (64, 48)
    assert looking.seen_share(captured[1].maps) > 0.1


def test_freestyle_draws_lines_along_the_edges(grisaille: ModuleType) -> None:
    scenes.empty()
    scenes.camera()
    scenes.add("cube", size=3.0)
    edges, freestyle = capture_camera().maps.line, capture_camera(line_source="freestyle").maps.line
    assert freestyle.dtype == np.float32 and freestyle.min() >= 0.0 and freestyle.max() == 1.0
    near_edges = looking.grown(looking.grown(edges > 0.5))
    assert (near_edges & (freestyle > 0.5)).sum() / (freestyle > 0.5).sum() > 0.95
    assert (looking.grown(looking.grown(freestyle > 0.5)) & (edges > 0.5)).sum() / (edges > 0.5).sum() > 0.95


def test_freestyle_refuses_more_faces_than_it_bears(grisaille: ModuleType) -> None:
    scenes.still_life()
    scenes.add("grid", x_subdivisions=100, y_subdivisions=100)
    levels = bpy.context.object.modifiers.new("Subdivision", "SUBSURF")
    levels.levels, levels.render_levels = 0, 2
    with refused("100,000 faces", "edges"):
        capture_camera(line_source="freestyle")
    levels.render_levels = 0
    assert capture_camera(line_source="freestyle").maps.line.any()


def test_cycles_switched_off_is_said(grisaille: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes.still_life()
    monkeypatch.setattr(looking.module("addon.compat"), "gpu_context", lambda start=False: False)
    bpy.ops.preferences.addon_disable(module="cycles")
    try:
        with refused("Cycles", "preferences"):
            capture_camera()
    finally:
        bpy.ops.preferences.addon_enable(module="cycles")
    assert looking.seen_share(capture_camera().maps) > 0.1
