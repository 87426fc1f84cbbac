"""Results in the scene, and that none is lost: undo, other files, saving, a reload of the add-on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import pytest

from tests.addon.fakes import PACKAGE, FakeLink, forget_all, module, ops, png
from tests.addon.test_operators import begin


def history() -> list[str]:
    return [entry.job_id for scene in bpy.data.scenes for entry in scene.grisaille_history]  # pyright: ignore


def finished(link: FakeLink, **changes: object) -> str:
    """A job that ran and whose picture is in the scene."""
    job_id = begin(**changes)
    link.finish(job_id)
    module("addon.results.arrivals").pump()
    return job_id


def save(path: Path, **options: Any) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(path), **options)


def test_undo_takes_the_picture_and_it_comes_back_with_the_same_bytes(fake_link: FakeLink) -> None:
    bpy.ops.ed.undo_push(message="before")
    job_id = finished(fake_link)
    bpy.ops.ed.undo_push(message="after")
    for _ in range(2):
        bpy.ops.ed.undo()
        assert history() == [job_id]
        assert bytes(bpy.context.scene.grisaille_history[0].image.packed_file.data) == png(64, 64)  # pyright: ignore
    bpy.ops.ed.redo()
    assert history() == [job_id], "once, not twice"


def test_undo_takes_back_what_the_picture_did_to_the_scene(fake_link: FakeLink) -> None:
    bpy.context.scene.grisaille.destination = "IMAGE_EMPTY"  # pyright: ignore
    bpy.ops.ed.undo_push(message="before")
    before = set(bpy.data.objects.keys())
    job_id = finished(fake_link)
    assert len(bpy.data.objects) == len(before) + 1
    bpy.ops.ed.undo()
    assert set(bpy.data.objects.keys()) == before
    assert history() == [job_id], "the picture itself is not lost"


def test_a_job_of_one_file_never_lands_in_another(fake_link: FakeLink, tmp_path: Path) -> None:
    first, second = tmp_path / "first.blend", tmp_path / "second.blend"
    save(second)
    save(first)
    job_id = begin()
    bpy.ops.wm.open_mainfile(filepath=str(second))
    fake_link.finish(job_id)
    arrivals = module("addon.results.arrivals")
    arrivals.pump()
    assert history() == [] and fake_link.on_disk == {job_id}
    assert not [image for image in bpy.data.images if "grisaille_job" in image]
    assert arrivals.elsewhere() == [job_id]
    bpy.ops.wm.open_mainfile(filepath=str(first))
    assert history() == [job_id] and arrivals.elsewhere() == []


def test_unsaved_work_is_not_the_next_unsaved_file(fake_link: FakeLink) -> None:
    job_id = begin()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    fake_link.finish(job_id)
    module("addon.results.arrivals").pump()
    assert history() == [] and module("addon.results.arrivals").elsewhere() == [job_id]


def test_a_file_that_is_saved_under_a_name_stays_the_same_file(fake_link: FakeLink, tmp_path: Path) -> None:
    job_id = begin()
    save(tmp_path / "named.blend")
    fake_link.finish(job_id)
    module("addon.results.arrivals").pump()
    assert history() == [job_id]


def test_kept_on_disk_until_a_saved_file_was_left(fake_link: FakeLink, tmp_path: Path) -> None:
    path = tmp_path / "scene.blend"
    bpy.ops.ed.undo_push(message="before")
    job_id = finished(fake_link)
    save(path)
    assert fake_link.on_disk == {job_id}, "an undo reaches back before it, and the next save would lose it"
    bpy.ops.ed.undo()
    assert history() == [job_id]
    save(path)
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert history() == [job_id] and fake_link.on_disk == set()
    assert bytes(bpy.context.scene.grisaille_history[0].image.packed_file.data) == png(64, 64)  # pyright: ignore


def test_a_saved_copy_is_not_the_file(fake_link: FakeLink, tmp_path: Path) -> None:
    save(tmp_path / "scene.blend")
    job_id = finished(fake_link)
    save(tmp_path / "copy.blend", copy=True)
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert fake_link.on_disk == {job_id}
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    assert history() == [job_id]


def test_what_blender_had_when_it_was_killed_is_found_again(fake_link: FakeLink, tmp_path: Path) -> None:
    save(tmp_path / "scene.blend")
    job_id = begin()
    fake_link.finish(job_id)  # on disk, and Blender never asked for it
    forget_all()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    assert history() == [job_id]


def test_recover_and_discard(fake_link: FakeLink) -> None:
    arrivals = module("addon.results.arrivals")
    jobs = [begin(), begin()]
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    for job_id in jobs:
        fake_link.finish(job_id)
    arrivals.pump()
    assert sorted(arrivals.elsewhere()) == sorted(jobs)
    arrivals.recover(jobs[:1])
    assert history() == jobs[:1] and arrivals.elsewhere() == jobs[1:]
    ops().results_discard()
    assert fake_link.on_disk == set(jobs[:1]) and arrivals.elsewhere() == []
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    ops().results_recover()
    assert history() == jobs[:1]


def test_a_removed_result_stays_removed(fake_link: FakeLink) -> None:
    bpy.ops.ed.undo_push(message="before")
    job_id = finished(fake_link)
    ops().result_remove(job_id=job_id)
    assert history() == [] and fake_link.on_disk == set()
    assert not [image for image in bpy.data.images if "grisaille_job" in image]
    assert module("addon.results.arrivals").reattach() == 0 and history() == []
    bpy.ops.ed.undo_push(message="removed")
    bpy.ops.ed.undo()
    assert history() == [job_id], "but undo takes back the removal, as any other step"


def test_a_reload_of_the_add_on_keeps_the_link_and_its_job(fake_link: FakeLink) -> None:
    job_id = begin()
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    assert not hasattr(bpy.types.Scene, "grisaille")
    fake_link.finish(job_id)
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    assert module("addon.state").get().link is fake_link and not fake_link.is_closed
    module("addon.results.arrivals").pump()
    assert history() == [job_id]


def test_unregister_leaves_nothing_behind(fake_link: FakeLink) -> None:
    handlers = ("load_post", "undo_post", "redo_post", "save_post")
    arrivals = module("addon.results.arrivals")

    def ours() -> list[str]:
        return [
            f"{name}:{function.__name__}"
            for name in handlers
            for function in getattr(bpy.app.handlers, name)
            if "grisaille" in function.__module__
        ]

    assert len(ours()) == 4
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    left = [name for name in dir(bpy.types) if name.lower().startswith("grisaille")]
    assert ours() == [] and left == [] and not bpy.app.timers.is_registered(arrivals.tick)
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    assert len(ours()) == 4 and bpy.app.timers.is_registered(arrivals.tick)


def test_camera_background_lies_on_the_frame(fake_link: FakeLink) -> None:
    bpy.context.scene.grisaille.destination = "CAMERA_BACKGROUND"  # pyright: ignore
    job_id = finished(fake_link)
    camera: Any = bpy.data.objects["Camera"].data
    image = bpy.context.scene.grisaille_history[0].image  # pyright: ignore
    assert camera.show_background_images and [b.image for b in camera.background_images] == [image]
    ops().result_apply(job_id=job_id, destination="CAMERA_BACKGROUND")
    assert len(camera.background_images) == 1, "shown once"


def test_a_background_of_a_camera_that_is_gone_is_a_sentence_and_the_picture_is_kept(fake_link: FakeLink) -> None:
    bpy.context.scene.grisaille.destination = "CAMERA_BACKGROUND"  # pyright: ignore
    job_id = begin()
    bpy.data.objects.remove(bpy.data.objects["Camera"])
    fake_link.finish(job_id)
    module("addon.results.arrivals").pump()
    assert history() == [job_id]
    assert "camera that is still in the file" in str(module("addon.state").get().failure)


@pytest.mark.parametrize("lens", ["PERSP", "ORTHO"])
@pytest.mark.parametrize("size", [(96, 64), (64, 128)])
def test_an_image_empty_fills_the_frame_it_came_from(fake_link: FakeLink, lens: str, size: tuple[int, int]) -> None:
    from bpy_extras.object_utils import world_to_camera_view
    from mathutils import Vector

    scene: Any = bpy.context.scene
    camera: Any = bpy.data.objects["Camera"]
    camera.data.type, camera.data.shift_x, camera.data.shift_y = lens, 0.1, -0.05
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.grisaille.destination = "IMAGE_EMPTY"
    finished(fake_link, width=size[0], height=size[1], controls=(module("backend.wire").Control("depth"),))
    empty = next(o for o in bpy.data.objects if o.type == "EMPTY")
    bpy.context.view_layer.update()
    longer = max(size)
    corners = []
    for x in (-0.5, 0.5):
        for y in (-0.5, 0.5):
            drawn = Vector((x * size[0] / longer, y * size[1] / longer, 0.0)) * empty.empty_display_size
            corners.append(tuple(world_to_camera_view(scene, camera, empty.matrix_world @ drawn))[:2])
    expected = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    for corner, wanted in zip(corners, expected, strict=True):
        assert corner == pytest.approx(wanted, abs=1e-3)
    depth = -(camera.matrix_world.inverted() @ empty.matrix_world.translation).z
    nearest = float(json.loads(scene.grisaille_history[0].origin)["distance"])
    assert 0.9 * nearest < depth < nearest, "just before the nearest thing"


def test_the_picture_is_shown_in_an_open_image_editor(fake_link: FakeLink) -> None:
    bpy.context.window.workspace = bpy.data.workspaces["Rendering"]
    window = bpy.context.window_manager.windows[0]
    area = max(window.screen.areas, key=lambda a: a.width * a.height)
    area.type = "IMAGE_EDITOR"
    finished(fake_link)
    assert area.spaces.active.image == bpy.context.scene.grisaille_history[0].image  # pyright: ignore


def test_use_its_settings_makes_the_same_request(fake_link: FakeLink) -> None:
    scene: Any = bpy.context.scene
    wire = module("backend.wire")
    finished(fake_link, seed=5, steps=7, controls=(wire.Control("line", 0.4, 0.1, 0.9),))
    ops().result_settings()
    settings = module("addon.settings")
    request = settings.to_request(scene.grisaille, 64, 64, scene.grisaille.seed)
    assert request.to_json() == json.loads(scene.grisaille_history[0].request)
    assert scene.grisaille.seed_locked
