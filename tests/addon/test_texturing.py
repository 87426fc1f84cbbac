"""The projected material: rendered from the view it came from, it is the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon import looking
from tests.addon.fakes import FakeLink, module

SIZE = 96, 64


def picture() -> bpy.types.Image:
    """An image with another colour in each place, of low frequency so that filtering hardly matters."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgba = np.stack([x / width, y / height, 0.5 + 0.4 * np.sin(x / 9.0) * np.cos(y / 7.0), np.ones_like(x)], -1)
    image = bpy.data.images.new("picture", width, height, float_buffer=True)
    image.colorspace_settings.name = "Non-Color"
    image.pixels.foreach_set(rgba.ravel())
    image.pack()
    return image


def view_now(width: int = SIZE[0], height: int = SIZE[1]) -> Any:
    capture = module("addon.capture")
    context = bpy.context
    depsgraph = context.evaluated_depsgraph_get()
    return capture.view_of_camera(context.scene.camera, depsgraph, context.scene, width, height)


def rendered(folder: Path, engine: str = "CYCLES", size: tuple[int, int] = SIZE) -> np.ndarray:
    """The rendered scene, linear RGBA, (height, width, 4), row 0 at the bottom as in `picture`. size: in pixels."""
    scene: Any = bpy.context.scene
    scene.render.engine = engine
    scene.eevee.taa_render_samples = 1
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 4, False, "CPU"
    scene.cycles.pixel_filter_type = "BOX"
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_depth, settings.color_mode = "OPEN_EXR", "32", "RGBA"
    scene.render.filepath = str(folder / "render.exr")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    image.colorspace_settings.name = "Non-Color"
    pixels = np.empty(size[0] * size[1] * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(size[1], size[0], 4)


def drawn() -> np.ndarray:
    """The scene as a 3D view in Material Preview shows it, like `rendered`."""
    import gpu

    space, region = looking.view_3d()
    space.shading.type, space.overlay.show_overlays = "MATERIAL", False
    view = view_now()
    matrices = view.world_to_view_matrix(), view.projection_matrix()
    offscreen = gpu.types.GPUOffScreen(*SIZE, format="RGBA32F")
    offscreen.draw_view3d(
        bpy.context.scene, bpy.context.view_layer, space, region, *matrices,
        do_color_management=False, draw_background=False,
    )  # fmt: skip
    with offscreen.bind():
        colour = gpu.state.active_framebuffer_get().read_color(0, 0, *SIZE, 4, 0, "FLOAT")
    offscreen.free()
    return np.asarray(colour, np.float32).reshape(SIZE[1], SIZE[0], 4)


def project_on_the_cube() -> None:
    scene: Any = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    bpy.context.view_layer.update()
    module("addon.texturing").project(picture(), view_now(), [bpy.data.objects["Cube"]])


def wanted() -> np.ndarray:
    pixels = np.empty(SIZE[0] * SIZE[1] * 4, np.float32)
    bpy.data.images["picture"].pixels.foreach_get(pixels)
    return pixels.reshape(SIZE[1], SIZE[0], 4)


def closeness(found: np.ndarray) -> tuple[float, float]:
    """The median and the 95th percentile of the error, 0..1, where objects cover the pixel wholly."""
    inside = found[..., 3] > 0.999
    assert inside.mean() > 0.05, "the objects are in the picture"
    error = np.abs(found[..., :3] - wanted()[..., :3]).max(-1)[inside]
    return float(np.median(error)), float(np.quantile(error, 0.95))


@pytest.mark.parametrize("lens", ["PERSP", "ORTHO"])
def test_from_its_own_view_the_objects_show_the_picture(fake_link: FakeLink, tmp_path: Path, lens: str) -> None:
    scene: Any = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    camera: Any = scene.camera.data
    camera.type, camera.shift_x, camera.shift_y = lens, 0.08, -0.04
    bpy.context.view_layer.update()
    module("addon.texturing").project(picture(), view_now(), [bpy.data.objects["Cube"]])
    median, high = closeness(rendered(tmp_path))
    assert median < 0.01 and high < 0.03


def test_eevee_shows_the_picture_too(fake_link: FakeLink, tmp_path: Path) -> None:
    project_on_the_cube()
    engines = bpy.types.RenderSettings.bl_rna.properties["engine"].enum_items  # pyright: ignore
    engine = next(item.identifier for item in engines if "EEVEE" in item.identifier)
    median, high = closeness(rendered(tmp_path, engine))
    assert median < 0.01 and high < 0.03


def test_the_viewport_shows_the_picture_too(fake_link: FakeLink) -> None:
    looking.need_gpu()
    project_on_the_cube()
    median, high = closeness(drawn())
    assert median < 0.01 and high < 0.03


def test_it_stays_on_the_object_seen_from_elsewhere(fake_link: FakeLink, tmp_path: Path) -> None:
    scene: Any = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    module("addon.texturing").project(picture(), view_now(), [bpy.data.objects["Cube"]])
    scene.camera.location = (-7.36, 6.93, 4.96)  # from the other side, where only faces away from the view are seen
    scene.camera.rotation_euler = (1.109, 0.0, -2.33)
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.0
    for light in [o for o in bpy.data.objects if o.type == "LIGHT"]:
        bpy.data.objects.remove(light)
    found = rendered(tmp_path)
    inside = found[..., 3] > 0.999
    top = found[..., :3].max(-1) > 0.01  # the cube's top is seen from both sides; all else is unlit base colour
    assert inside.mean() > 0.05
    assert 0.05 < (top & inside).sum() / inside.sum() < 0.6


def test_behind_the_view_there_is_no_picture(fake_link: FakeLink, tmp_path: Path) -> None:
    scene: Any = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    view = view_now()
    turned = view.world_to_view_matrix()
    turned[0], turned[2] = -turned[0], -turned[2]  # the same place, looking the other way
    from dataclasses import replace

    view = replace(view, world_to_view=tuple(float(v) for row in turned for v in row))
    module("addon.texturing").project(picture(), view, [bpy.data.objects["Cube"]])
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.0
    for light in [o for o in bpy.data.objects if o.type == "LIGHT"]:
        bpy.data.objects.remove(light)
    found = rendered(tmp_path)
    assert found[..., :3][found[..., 3] > 0.999].max() < 1e-3


def test_restore_puts_every_slot_back(fake_link: FakeLink) -> None:
    texturing = module("addon.texturing")
    cube: Any = bpy.data.objects["Cube"]
    mesh, old = cube.data, cube.data.materials[0]
    twin = bpy.data.objects.new("Twin", mesh)
    own, bare = bpy.data.materials.new("own"), bpy.data.objects.new("Bare", bpy.data.meshes.new("bare"))
    second: Any = bpy.data.objects.new("Second", mesh.copy())
    for found in (twin, bare, second):
        bpy.context.scene.collection.objects.link(found)
    second.material_slots[0].link, second.material_slots[0].material = "OBJECT", own
    objects = [cube, bare, second, bpy.data.objects["Light"]]
    assert texturing.project(picture(), view_now(), objects) == objects[:3]
    assert mesh.materials[0] is old and twin.material_slots[0].material is old, "the mesh's other users keep theirs"
    assert cube.material_slots[0].material is not old
    texturing.project(picture(), view_now(), objects)  # a second picture over the first
    texturing.restore(objects)
    assert cube.material_slots[0].link == "DATA" and cube.material_slots[0].material is old
    assert second.material_slots[0].link == "OBJECT" and second.material_slots[0].material is own
    assert len(bare.material_slots) == 0
    assert not [m for m in bpy.data.materials if "grisaille_projection" in m and m.users]


def test_the_base_colour_is_the_old_materials(fake_link: FakeLink) -> None:
    projection = module("addon.texturing.projection")
    red = bpy.data.materials.new("red")
    module("addon.compat").give_nodes(red)
    principled: Any = next(n for n in red.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    principled.inputs["Base Color"].default_value = (0.9, 0.1, 0.05, 1.0)
    material = projection.make_material(picture(), view_now(), red)
    base: Any = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert tuple(base.inputs["Base Color"].default_value) == pytest.approx((0.9, 0.1, 0.05, 1.0))
    assert projection.original(material) is red


def test_nothing_selected_is_a_sentence_and_the_picture_is_kept(fake_link: FakeLink) -> None:
    from tests.addon.test_operators import begin

    scene: Any = bpy.context.scene
    scene.grisaille.destination = "MATERIAL"
    for found in bpy.data.objects:
        found.select_set(False)
    fake_link.finish(begin())
    module("addon.results.arrivals").pump()
    assert len(scene.grisaille_history) == 1
    assert "no object to project" in str(module("addon.state").get().failure)
