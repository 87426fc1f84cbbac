"""The colours of the scene, as its camera renders them and as a 3D view shows them."""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest

from tests.addon import looking, scenes

SIZE = (96, 64)
PLAIN = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "grey": (0.2140411, 0.2140411, 0.2140411)}
"""Linear light; the grey is 0.5 on the display."""


def glowing(name: str) -> bpy.types.Material:
    """A material that shows one colour, however it is lit."""
    material: Any = bpy.data.materials.new(name)
    looking.module("addon.compat").give_nodes(material)
    tree = material.node_tree
    glow = tree.nodes.new("ShaderNodeEmission")
    glow.inputs["Color"].default_value = (*PLAIN[name], 1.0)
    tree.links.new(glow.outputs[0], next(n for n in tree.nodes if n.type == "OUTPUT_MATERIAL").inputs["Surface"])
    material.diffuse_color = (*PLAIN[name], 1.0)
    return material


def two_cards() -> None:
    """A red card at the top left and a green one at the bottom right, before a black world."""
    scenes.empty()
    scene = bpy.context.scene
    camera = scenes.camera((0.0, -10.0, 0.0), (0.0, 0.0, 0.0))
    camera.data.type, camera.data.ortho_scale = "ORTHO", 6.0
    for name, place in (("red", (-1.5, 0.0, 1.0)), ("green", (1.5, 0.0, -1.0))):
        card = scenes.add("plane", size=1.6, location=place, rotation=(1.5707963, 0.0, 0.0))
        card.data.materials.append(glowing(name))
    scene.world = None
    scene.view_settings.view_transform = "Standard"


def rendered() -> np.ndarray:
    return looking.module("addon.capture").capture_camera(bpy.context, *SIZE, ("grey",)).maps.colour


def test_rendered_colours_are_where_and_what_they_are_shown_as(grisaille: ModuleType) -> None:
    two_cards()
    colour = rendered()
    assert colour.shape == (64, 96, 3) and colour.dtype == np.uint8
    np.testing.assert_allclose(colour[16, 24].astype(int), (255, 0, 0), atol=5)
    np.testing.assert_allclose(colour[48, 72].astype(int), (0, 255, 0), atol=5)
    assert colour[16, 72].max() <= 5 and colour[48, 24].max() <= 5


def test_colours_are_display_values(grisaille: ModuleType) -> None:
    """Light of 0.214 is shown as 0.5, and with one stop less as what sRGB makes of 0.107: 0.361."""
    two_cards()
    bpy.data.objects["Plane"].data.materials[0] = glowing("grey")
    assert np.abs(rendered()[16, 24].astype(int) - 128).max() <= 4
    bpy.context.scene.view_settings.exposure = -1.0
    assert np.abs(rendered()[16, 24].astype(int) - 92).max() <= 4


def test_a_transparent_film_is_not_a_black_sky(grisaille: ModuleType) -> None:
    two_cards()
    scene: Any = bpy.context.scene
    scene.world = bpy.data.worlds.new("white")
    looking.module("addon.compat").give_nodes(scene.world)
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    scene.render.film_transparent = True
    assert rendered()[2, 2].min() > 200


def test_drawn_colours_are_those_of_the_3d_view(grisaille: ModuleType) -> None:
    looking.need_gpu()
    two_cards()
    space, region = looking.view_3d()
    space.region_3d.view_perspective = "CAMERA"
    space.shading.type, space.shading.light, space.shading.color_type = "SOLID", "FLAT", "MATERIAL"
    space.overlay.show_overlays = True
    colour = looking.module("addon.capture").capture_viewport(bpy.context, space, region, *SIZE, ("grey",)).maps.colour
    np.testing.assert_allclose(colour[16, 24].astype(int), (255, 0, 0), atol=5)
    np.testing.assert_allclose(colour[48, 72].astype(int), (0, 255, 0), atol=5)
    assert np.ptp(colour[2:8, 80:94].reshape(-1, 3), axis=0).max() <= 2, "no grid over the ground"


def test_only_what_the_controls_need_is_captured(grisaille: ModuleType) -> None:
    two_cards()
    capture = looking.module("addon.capture").capture_camera
    assert set(capture(bpy.context, *SIZE, ("tile", "blur")).maps.arrays()) == {"colour"}
    assert set(capture(bpy.context, *SIZE, ("canny", "depth")).maps.arrays()) == {"line", "depth"}
    assert set(capture(bpy.context, *SIZE, ("soft_edge", "grey")).maps.arrays()) == {"line", "colour"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut short"),
        (b"BM" + bytes(60), "not a plain BMP"),
        (b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 4, 4, 1, 24, 0) + bytes(20), "buffer"),
    ],
)
def test_a_damaged_file_is_refused(data: bytes, said: str, grisaille: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "colour.bmp"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said):
        looking.module("addon.capture.colour_render").read_bmp(path)
