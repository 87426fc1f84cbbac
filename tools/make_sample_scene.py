"""Makes samples/still_life.blend, the demo's scene: .venv-4.5/bin/python -m tools.make_sample_scene [FILE]

Made with the oldest Blender that is supported, so that every later one opens it.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

# A .blend remembers where its file browser stood, and that need not be the home folder of whoever makes this one.
os.environ["HOME"] = os.sep

import bpy
import mathutils

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples" / "still_life.blend"
Vector3 = tuple[float, float, float]

PLASTER = (0.62, 0.60, 0.57)
CLAY = (0.45, 0.20, 0.12)
SLATE = (0.11, 0.14, 0.17)
OCHRE = (0.60, 0.37, 0.10)
CLOTH = (0.30, 0.31, 0.33)


def main(path: Path = SAMPLE) -> Path:
    """A still life on a table before a curved backdrop: one bust, solids around it, a camera, window light."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene: Any = bpy.context.scene
    scene.name = "Still Life"
    _add_backdrop()
    _add_table()
    _add_bust()
    _add_solids()
    _add_light(scene)
    _add_camera(scene)
    _set_render(scene)
    bpy.ops.outliner.orphans_purge(do_recursive=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True, relative_remap=True)
    path.with_suffix(".blend1").unlink(missing_ok=True)
    return path


def _material(name: str, colour: Vector3, roughness: float = 0.7) -> Any:
    material: Any = bpy.data.materials.get(name) or bpy.data.materials.new(name)
    material.use_nodes = True
    material.diffuse_color = (*colour, 1.0)
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    return material


def _finish(name: str, material: Any, smooth: bool = True, bevel: float = 0.0) -> Any:
    """Names and colours the object that an operator has just added."""
    thing: Any = bpy.context.object
    thing.name = thing.data.name = name
    thing.data.materials.append(material)
    if smooth:
        bpy.ops.object.shade_smooth()
    if bevel:
        modifier = thing.modifiers.new("Bevel", "BEVEL")
        modifier.width, modifier.segments = bevel, 2
    return thing


def _add_backdrop() -> None:
    """A wall that runs into the floor in a quarter circle, so that no edge is behind the subject."""
    profile = [(-4.0, 0.0), *[(2.2 + 1.6 * math.sin(a), 1.6 - 1.6 * math.cos(a)) for a in _quarter(8)], (3.8, 6.0)]
    vertices = [(x, y, z) for y, z in profile for x in (-7.0, 7.0)]
    faces = [(2 * i, 2 * i + 1, 2 * i + 3, 2 * i + 2) for i in range(len(profile) - 1)]
    mesh = bpy.data.meshes.new("Backdrop")
    mesh.from_pydata(vertices, [], faces)
    mesh.polygons.foreach_set("use_smooth", [True] * len(faces))
    mesh.materials.append(_material("Backdrop", CLOTH, 0.95))
    _link(bpy.data.objects.new("Backdrop", mesh))


def _quarter(parts: int) -> list[float]:
    return [math.pi / 2 * part / parts for part in range(parts + 1)]


def _link(thing: Any) -> None:
    collection: Any = bpy.context.collection
    collection.objects.link(thing)


def _add_table() -> None:
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0.0, 0.0, 0.36))
    table = _finish("Plinth", _material("Slate", SLATE, 0.5), smooth=False, bevel=0.03)
    table.scale = (3.9, 2.0, 0.72)


def _add_bust() -> None:
    bpy.ops.mesh.primitive_cylinder_add(vertices=48, radius=0.46, depth=0.34, location=(-0.25, 0.2, 0.89))
    _finish("Base", _material("Slate", SLATE), smooth=False, bevel=0.03)
    bpy.ops.mesh.primitive_monkey_add(size=1.35, location=(-0.25, 0.15, 1.66))
    bust = _finish("Suzanne", _material("Plaster", PLASTER))
    bust.rotation_euler = (math.radians(-8), math.radians(3), math.radians(24))
    subdivision = bust.modifiers.new("Subdivision", "SUBSURF")
    subdivision.levels, subdivision.render_levels = 1, 2


def _add_solids() -> None:
    clay, ochre, plaster = _material("Clay", CLAY), _material("Ochre", OCHRE, 0.45), _material("Plaster", PLASTER)
    bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=24, radius=0.32, location=(0.72, -0.38, 1.04))
    _finish("Sphere", ochre)
    bpy.ops.mesh.primitive_cone_add(vertices=48, radius1=0.36, depth=1.15, location=(1.12, 0.42, 1.295))
    _finish("Cone", clay, smooth=False)
    bpy.ops.mesh.primitive_cube_add(size=0.52, location=(-1.32, 0.02, 0.98), rotation=(0, 0, math.radians(33)))
    _finish("Cube", clay, smooth=False, bevel=0.015)
    bpy.ops.mesh.primitive_torus_add(
        major_segments=48, minor_segments=16, major_radius=0.27, minor_radius=0.085, location=(-0.92, -0.62, 0.805)
    )
    _finish("Torus", plaster)
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=1, radius=0.2, location=(0.08, -0.7, 0.885))
    _finish("Stone", _material("Slate", SLATE), smooth=False)


def _add_light(scene: Any) -> None:
    _area("Window", (-3.2, -2.6, 4.2), (0.0, 0.1, 1.2), 380.0, 1.8, (1.0, 0.95, 0.88))
    _area("Sky", (4.0, -3.0, 3.0), (0.2, 0.0, 1.2), 60.0, 3.0, (0.80, 0.89, 1.0))
    world: Any = bpy.data.worlds.new("World")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.02, 0.022, 0.026, 1.0)
    scene.world = world


def _area(name: str, location: Vector3, target: Vector3, watts: float, size: float, colour: Vector3) -> None:
    light: Any = bpy.data.lights.new(name, "AREA")
    light.energy, light.size, light.color = watts, size, colour
    thing = bpy.data.objects.new(name, light)
    _link(thing)
    _aim(thing, location, target)


def _add_camera(scene: Any) -> None:
    data = bpy.data.cameras.new("Camera")
    data.lens = 62.0
    data.clip_end = 100.0
    camera = bpy.data.objects.new("Camera", data)
    _link(camera)
    _aim(camera, (1.6, -6.6, 2.35), (-0.08, 0.0, 1.3))
    scene.camera = camera


def _aim(thing: Any, location: Vector3, target: Vector3) -> None:
    thing.location = location
    direction = mathutils.Vector(target) - mathutils.Vector(location)
    thing.rotation_euler = direction.to_track_quat("-Z", "Y").to_euler()


def _set_render(scene: Any) -> None:
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 32
    scene.render.resolution_x = scene.render.resolution_y = 768
    scene.view_settings.view_transform = "AgX"


if __name__ == "__main__":
    print(main(*map(Path, sys.argv[1:2])))
