"""Where the viewport's truth and the render's are not the same, each rule by itself."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon import looking, scenes

SIZE = (192, 144)


def target() -> Any:
    """A scene with a floor and one sphere, which the rules below hide in their ways. Returns the sphere."""
    scenes.empty()
    scenes.camera()
    scenes.add("plane", size=6)
    return scenes.add("uv_sphere", smooth=True, location=(0.0, 0.0, 1.2), radius=1.2)


def shows_sphere(maps: Any) -> bool:
    """The sphere covers the picture's centre, nearer than the floor behind it."""
    return bool(maps.depth[SIZE[1] // 2 - 12, SIZE[0] // 2] < 9.0)


def may_be_drawn() -> bool:
    space, _region = looking.view_3d()
    return looking.module("addon.capture.truths").truths_coincide(bpy.context.scene, bpy.context.view_layer, space)


def check(in_viewport: bool, in_render: bool) -> None:
    looking.need_gpu()
    assert shows_sphere(looking.drawn(*SIZE)) is in_viewport
    assert shows_sphere(looking.rendered(*SIZE)) is in_render
    assert may_be_drawn() is (in_viewport == in_render)
    assert (
        shows_sphere(looking.module("addon.capture").capture_camera(bpy.context, *SIZE, looking.ALL).maps) is in_render
    )


def test_a_visible_object_is_in_both(grisaille: ModuleType) -> None:
    target()
    check(in_viewport=True, in_render=True)


def test_the_eye_hides_from_the_viewport_only(grisaille: ModuleType) -> None:
    target().hide_set(True)
    check(in_viewport=False, in_render=True)


def test_disabled_in_viewports_hides_from_the_viewport_only(grisaille: ModuleType) -> None:
    target().hide_viewport = True
    check(in_viewport=False, in_render=True)


def test_disabled_in_renders_hides_from_the_render_only(grisaille: ModuleType) -> None:
    target().hide_render = True
    check(in_viewport=True, in_render=False)


def test_a_collection_disabled_in_renders_hides_from_the_render_only(grisaille: ModuleType) -> None:
    apart = bpy_collection(target())
    apart.hide_render = True
    check(in_viewport=True, in_render=False)


def test_a_collection_hidden_in_the_viewport_is_rendered(grisaille: ModuleType) -> None:
    apart = bpy_collection(target())
    bpy.context.view_layer.layer_collection.children[apart.name].hide_viewport = True
    check(in_viewport=False, in_render=True)


def test_an_excluded_collection_is_in_neither(grisaille: ModuleType) -> None:
    apart = bpy_collection(target())
    bpy.context.view_layer.layer_collection.children[apart.name].exclude = True
    check(in_viewport=False, in_render=False)


def test_an_object_shown_as_wire_is_rendered_only(grisaille: ModuleType) -> None:
    target().display_type = "WIRE"
    check(in_viewport=False, in_render=True)


def test_an_object_invisible_to_the_camera_is_in_the_viewport_only(grisaille: ModuleType) -> None:
    target().visible_camera = False
    check(in_viewport=True, in_render=False)


def test_a_modifier_for_the_render_only_is_rendered_only(grisaille: ModuleType) -> None:
    sphere = target()
    flat = sphere.modifiers.new("Away", "DISPLACE")
    flat.strength, flat.show_viewport = -1.19, False
    check(in_viewport=True, in_render=False)


def bpy_collection(item: Any) -> Any:
    """Puts the object into a collection of its own."""
    apart = bpy.data.collections.new("apart")
    bpy.context.scene.collection.children.link(apart)
    item.users_collection[0].objects.unlink(item)
    apart.objects.link(item)
    return apart


def test_levels_of_subdivision_are_the_viewports_or_the_renders(grisaille: ModuleType) -> None:
    looking.need_gpu()
    scenes.empty()
    scenes.camera()
    cube = scenes.add("cube", size=3.0)
    levels = cube.modifiers.new("Subdivision", "SUBSURF")
    levels.levels, levels.render_levels = 0, 3
    share = looking.seen_share(looking.drawn(*SIZE)), looking.seen_share(looking.rendered(*SIZE))
    assert share[0] > share[1] * 1.2, "a cube covers more than the ball that it becomes"
    assert not may_be_drawn()


@pytest.mark.parametrize("kind", ["glass", "transparent", "displaced glass"])
def test_transparent_surfaces_are_captured_as_opaque(kind: str, grisaille: ModuleType) -> None:
    sphere = target()
    opaque = looking.rendered(*SIZE)
    material = bpy.data.materials.new("glass")
    looking.module("addon.compat").give_nodes(material)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    output = nodes.new("ShaderNodeOutputMaterial")
    shader = nodes.new("ShaderNodeBsdfTransparent" if kind == "transparent" else "ShaderNodeBsdfGlass")
    links.new(shader.outputs[0], output.inputs["Surface"])
    if kind == "displaced glass":
        move = nodes.new("ShaderNodeDisplacement")
        move.inputs["Height"].default_value, move.inputs["Scale"].default_value = 1.0, 0.2
        links.new(move.outputs[0], output.inputs["Displacement"])
        material.displacement_method = "DISPLACEMENT"
    sphere.data.materials.append(material)
    clear = looking.rendered(*SIZE)
    assert shows_sphere(clear)
    if kind == "displaced glass":
        assert not may_be_drawn()
        nearer = opaque.depth[60, 96] - clear.depth[60, 96]
        assert nearer > 0.05, "what the material displaces is displaced in the capture"
    else:
        assert may_be_drawn()
        assert np.array_equal(clear.depth, opaque.depth)


def test_depth_of_field_does_not_blur_a_capture(grisaille: ModuleType) -> None:
    target()
    sharp = looking.rendered(*SIZE)
    focus = bpy.context.scene.camera.data.dof
    focus.use_dof, focus.focus_distance, focus.aperture_fstop = True, 1.0, 0.1
    assert np.array_equal(looking.rendered(*SIZE).depth, sharp.depth)


def test_a_capture_ignores_border_percentage_multiview_and_compositing(grisaille: ModuleType) -> None:
    target()
    plain = looking.rendered(*SIZE)
    render = bpy.context.scene.render
    render.use_border = render.use_crop_to_border = render.use_multiview = True
    render.border_max_x, render.resolution_percentage, render.film_transparent = 0.3, 17, True
    render.use_motion_blur = render.use_freestyle = render.use_stamp = True
    assert np.array_equal(looking.rendered(*SIZE).depth, plain.depth)


def test_the_renders_pixel_aspect_is_kept(grisaille: ModuleType) -> None:
    looking.need_gpu()
    target()
    bpy.context.scene.render.pixel_aspect_x = 2.0
    drawn, rendered = looking.drawn(*SIZE), looking.rendered(*SIZE)
    assert looking.apart(drawn, rendered).silhouette_iou > 0.99


def test_each_view_layer_is_captured_by_itself(grisaille: ModuleType) -> None:
    apart = bpy_collection(target())
    second = bpy.context.scene.view_layers.new("without")
    second.layer_collection.children[apart.name].exclude = True
    capture_camera = looking.module("addon.capture").capture_camera
    first_name = bpy.context.scene.view_layers[0].name
    for name, expected in ((first_name, True), ("without", False)):
        maps = capture_camera(bpy.context, *SIZE, looking.ALL, view_layer=name).maps
        assert shows_sphere(maps) is expected
        assert shows_sphere(looking.rendered(*SIZE, layer=bpy.context.scene.view_layers[name])) is expected


def test_local_view_is_the_viewports_alone(grisaille: ModuleType) -> None:
    looking.need_gpu()
    target()
    space, region = looking.view_3d()
    floor = next(item for item in bpy.data.objects if item.name.startswith("Plane"))
    bpy.ops.object.select_all(action="DESELECT")
    floor.select_set(True)
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.view3d.localview(frame_selected=False)
    assert space.local_view is not None
    assert not shows_sphere(looking.drawn(*SIZE))
    assert not may_be_drawn()
    assert shows_sphere(looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("depth",)).maps)


def test_where_the_truths_coincide_nothing_is_rendered(grisaille: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    looking.need_gpu()
    target()

    def never(*_arguments: object) -> None:
        raise AssertionError("Cycles was asked")

    monkeypatch.setattr(looking.module("addon.capture.capture"), "render_maps", never)
    assert shows_sphere(looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("depth",)).maps)
