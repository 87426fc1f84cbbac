"""Renders of the ten scenes, with colours, textures and light, for what makes pictures larger to be measured on:

.venv-5.2/bin/python -m tools.ten_scene_renders FOLDER      writes FOLDER/<scene>.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bpy

from tools.ten_scenes import SCENES, build

SIZE = 192
SAMPLES = 64
COLOURS = ((0.7, 0.12, 0.05), (0.05, 0.3, 0.6), (0.6, 0.45, 0.1), (0.1, 0.4, 0.12), (0.75, 0.75, 0.7))


def render(name: str, path: Path) -> None:
    """Renders the scene `name` as it would be finished: a chequered floor, painted things, sun and sky."""
    scene = build(name)
    for index, thing in enumerate(thing for thing in scene.objects if thing.type != "CAMERA"):
        data: Any = thing.data
        data.materials.clear()
        colour = COLOURS[index % len(COLOURS)]
        data.materials.append(_floor() if thing.name == "Ground" else _paint(colour))
    _light(scene)
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    scene.cycles.samples, scene.cycles.seed, scene.cycles.use_denoising = SAMPLES, 0, True
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def _paint(colour: tuple[float, float, float]) -> Any:
    material, _, shader = _material("Paint")
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = 0.35
    return material


def _floor() -> Any:
    material, nodes, shader = _material("Floor")
    chequers, place = nodes.new("ShaderNodeTexChecker"), nodes.new("ShaderNodeTexCoord")
    chequers.inputs["Scale"].default_value = 5.0
    chequers.inputs["Color1"].default_value = (0.55, 0.5, 0.42, 1.0)
    chequers.inputs["Color2"].default_value = (0.2, 0.2, 0.24, 1.0)
    material.node_tree.links.new(place.outputs["Generated"], chequers.inputs["Vector"])
    material.node_tree.links.new(chequers.outputs["Color"], shader.inputs["Base Color"])
    return material


def _material(name: str) -> tuple[Any, Any, Any]:
    material: Any = bpy.data.materials.new(name)
    nodes = _nodes(material)
    return material, nodes, next(node for node in nodes if node.type == "BSDF_PRINCIPLED")


def _nodes(owner: Any) -> Any:
    """The nodes of a material or a world; those of Blender 4.5 have to be switched on."""
    if owner.node_tree is None:
        owner.use_nodes = True
    tree: Any = owner.node_tree
    return tree.nodes


def _light(scene: Any) -> None:
    sun: Any = bpy.data.lights.new("Sun", "SUN")
    sun.energy, sun.angle = 3.0, 0.05
    lamp: Any = bpy.data.objects.new("Sun", sun)
    lamp.rotation_euler = (0.7, 0.3, 0.5)
    scene.collection.objects.link(lamp)
    world: Any = bpy.data.worlds.new("Sky")
    background = next(node for node in _nodes(world) if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.45, 0.6, 0.8, 1.0)
    background.inputs["Strength"].default_value = 0.6
    scene.world = world


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCENES:
        render(name, folder / f"{name}.png")
        print(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
