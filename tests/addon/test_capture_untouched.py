"""A capture leaves the user's session exactly as it was, also when it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon import looking, scenes
from tests.addon.scene_digest import differences, session_digest

SIZE = (96, 64)


def lived_in_scene() -> None:
    """A scene with something of everything that a careless capture would change."""
    scenes.still_life()
    scene = bpy.context.scene
    scene.render.engine, scene.frame_end, scene.render.filepath = "BLENDER_WORKBENCH", 77, "//somewhere/"
    scene.render.resolution_x, scene.render.use_freestyle, scene.view_settings.exposure = 333, True, 0.5
    scene.frame_set(5)
    ball = bpy.data.objects["Sphere"]
    for frame, x in ((1, 0.0), (9, 2.0)):
        ball.location.x = x
        ball.keyframe_insert("location", frame=frame)
    # Moved and not keyed: a render would set it back to its animation.
    ball.location.x, ball["own"] = 1.5, 0.25
    ball.keyframe_insert('["own"]', frame=1)
    ball["own"] = 0.75
    material = bpy.data.materials.new("paint")
    looking.module("addon.compat").give_nodes(material)
    ball.data.materials.append(material)
    second = scene.view_layers.new("second")
    second.use_pass_mist, second.material_override = True, material
    scene.timeline_markers.new("here", frame=3).camera = scene.camera
    scene.camera.data.dof.use_dof = True
    bpy.data.worlds[0].use_fake_user = True
    for item in bpy.data.objects:
        item.select_set(item.name in ("Cube", "Camera"))
    bpy.context.view_layer.objects.active = bpy.data.objects["Cube"]
    bpy.data.objects["Plane"].hide_set(True)
    bpy.context.view_layer.update()


def by_cycles() -> None:
    assert looking.seen_share(looking.rendered(*SIZE)) > 0.05


def by_freestyle() -> None:
    capture = looking.module("addon.capture").capture_camera(bpy.context, *SIZE, looking.ALL, line_source="freestyle")
    assert capture.maps.line.any()


def by_drawing() -> None:
    looking.need_gpu()
    space, region = looking.view_3d()
    capture = looking.module("addon.capture").capture_viewport(bpy.context, space, region, *SIZE, looking.ALL)
    assert looking.seen_share(capture.maps) > 0.02


def colours_by_cycles() -> None:
    capture = looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("grey",))
    assert capture.maps.colour.std() > 1.0


def colours_by_drawing() -> None:
    looking.need_gpu()
    capture = looking.module("addon.capture").capture_viewport(bpy.context, *looking.view_3d(), *SIZE, ("tile",))
    assert capture.maps.colour.std() > 1.0


WAYS = [by_cycles, by_freestyle, by_drawing, colours_by_cycles, colours_by_drawing]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("mode", ["OBJECT", "EDIT", "SCULPT", "VERTEX_PAINT"])
def test_every_setting_is_as_it_was(mode: str, way: Callable[[], None], grisaille: ModuleType) -> None:
    lived_in_scene()
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode=mode)
    before = session_digest()
    way()
    assert differences(before, session_digest()) == []


@pytest.mark.parametrize("shading", ["WIREFRAME", "SOLID", "MATERIAL"])
def test_the_3d_views_settings_are_as_they_were(shading: str, grisaille: ModuleType) -> None:
    lived_in_scene()
    bpy.context.scene.render.engine = "CYCLES"
    space, _region = looking.view_3d()
    space.shading.light, space.shading.color_type = "FLAT", "RANDOM"
    space.shading.type = shading
    space.shading.show_xray_wireframe, space.overlay.show_overlays, space.show_gizmo = True, True, False
    before = session_digest()
    by_drawing()
    colours_by_drawing()
    assert differences(before, session_digest()) == []


def test_the_digest_sees_what_it_must_see(grisaille: ModuleType) -> None:
    """Each of these is a change that a capture could leave behind."""
    lived_in_scene()
    space, _region = looking.view_3d()
    changes: list[Callable[[], Any]] = [
        lambda: setattr(bpy.context.scene.render, "engine", "CYCLES"),
        lambda: setattr(bpy.context.scene.view_layers[0], "use_pass_z", True),
        lambda: setattr(bpy.context.scene.cycles, "samples", 1),
        lambda: setattr(bpy.data.objects["Cube"], "location", (9.0, 0.0, 0.0)),
        lambda: bpy.data.objects["Cube"].select_set(False),
        lambda: setattr(space.shading, "light", "MATCAP"),
        lambda: setattr(space.overlay, "show_overlays", False),
        lambda: bpy.data.materials.new("left behind"),
        lambda: bpy.context.scene.frame_set(6),
        lambda: setattr(bpy.data.materials["paint"].node_tree.nodes[0], "location", (1.0, 2.0)),
        lambda: setattr(bpy.data.meshes["Cube"].vertices[0], "co", (0.1, 0.2, 0.3)),
    ]
    for number, change in enumerate(changes):
        before = session_digest()
        change()
        assert differences(before, session_digest()), f"change {number} was not seen"


@pytest.mark.parametrize("way", [by_cycles, colours_by_cycles], ids=lambda way: way.__name__)
def test_nothing_is_left_behind_when_the_render_raises(
    way: Callable[[], None], grisaille: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is to be written below a file that is no folder: Blender's own render then reports an error."""
    lived_in_scene()
    before = session_digest()
    error = looking.module("backend.wire").FailureError

    class NoFolder:
        def __init__(self, prefix: str) -> None:
            self.name = str(Path(__file__) / prefix)

        def __enter__(self) -> str:
            return self.name

        def __exit__(self, *_: object) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(looking.module("addon.capture.cycles_render").tempfile, "TemporaryDirectory", NoFolder)
        with pytest.raises(error) as caught:
            way()
    assert caught.value.failure.kind == "capture_failed" and caught.value.failure.detail
    assert differences(before, session_digest()) == []


def test_nothing_is_left_behind_when_the_draw_raises(grisaille: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    looking.need_gpu()
    lived_in_scene()
    before = session_digest()

    def broken(*_: object) -> None:
        raise RuntimeError("the card went away")

    with monkeypatch.context() as patched:
        patched.setattr(looking.module("addon.capture.gpu_draw"), "_read", broken)
        with pytest.raises(RuntimeError):
            by_drawing()
    assert differences(before, session_digest()) == []
    by_drawing()


def test_the_render_result_stays_the_users(grisaille: ModuleType, tmp_path: Path) -> None:
    scenes.still_life()
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 2, False
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 80, 60, 100
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.render.render()
    saved = [tmp_path / "before.png", tmp_path / "after.png"]
    result = bpy.data.images["Render Result"]
    slots = (len(result.render_slots), result.render_slots.active_index)
    result.save_render(str(saved[0]), scene=scene)
    by_cycles()
    result = bpy.data.images["Render Result"]
    assert (len(result.render_slots), result.render_slots.active_index) == slots
    result.save_render(str(saved[1]), scene=scene)
    pictures = []
    for path in saved:
        image = bpy.data.images.load(str(path))
        pixels = np.empty(len(image.pixels), np.float32)
        image.pixels.foreach_get(pixels)
        pictures.append((tuple(image.size), pixels))
    assert pictures[0][0] == pictures[1][0] == (80, 60)
    assert np.array_equal(pictures[0][1], pictures[1][1])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_one_undo_still_undoes_the_users_last_step(way: Callable[[], None], grisaille: ModuleType) -> None:
    scenes.still_life()
    bpy.ops.ed.undo_push(message="start")
    bpy.data.objects["Cube"].location.x = 5.0
    bpy.ops.ed.undo_push(message="moved")
    bpy.data.objects["Cube"].location.x = 7.0
    bpy.ops.ed.undo_push(message="moved again")
    way()
    bpy.ops.ed.undo()
    assert bpy.data.objects["Cube"].location.x == pytest.approx(5.0)
    bpy.ops.ed.redo()
    assert bpy.data.objects["Cube"].location.x == pytest.approx(7.0)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_saved_file_stays_saved(way: Callable[[], None], grisaille: ModuleType, tmp_path: Path) -> None:
    scenes.still_life()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    # Blender 4.5 calls a file dirty in background even when it was just saved.
    was_dirty = bpy.data.is_dirty
    way()
    assert bpy.data.is_dirty == was_dirty
