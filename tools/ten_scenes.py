"""Ten Blender scenes that the sample model has never seen, and their captures:

    .venv-5.2/bin/python -m tools.ten_scenes FOLDER [FILE]    installs the zip of dist/, writes FOLDER/<scene>.npz

Each file has depth, normal and line as `ControlMaps` has them, and `subject` and `ground`: which pixels show what.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Blender reads where its profile is when it is imported: the extension must not go into the user's own.
os.environ.setdefault("BLENDER_USER_RESOURCES", tempfile.mkdtemp())

import bpy
import mathutils
import numpy as np

PACKAGE = "bl_ext.user_default.grisaille"
SIZE = 256
Place = tuple[float, float, float]


def build(name: str) -> Any:
    """Empties the file and builds the scene `name` of SCENES; returns Blender's scene."""
    # Not the factory settings: with them an installed add-on would be off.
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene: Any = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=16)
    _active().name = "Ground"
    SCENES[name]()
    _add_camera(scene)
    scene.render.engine = "CYCLES"
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    bpy.context.view_layer.update()
    return scene


def _active() -> Any:
    return bpy.context.object


def _suzanne() -> None:
    bpy.ops.mesh.primitive_monkey_add(size=1.8, location=(0, 0, 0.95), rotation=(-0.2, 0, 0.3))
    _active().modifiers.new("Subdivision", "SUBSURF").levels = 2
    bpy.ops.object.shade_smooth()


def _cubes() -> None:
    for place, turn in (((-0.6, 0, 0.5), 0.4), ((0.75, 0.2, 0.5), -0.2), ((0.05, 0.1, 1.5), 0.1)):
        bpy.ops.mesh.primitive_cube_add(size=1, location=place, rotation=(0, 0, turn))


def _rock() -> None:
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=5, radius=1.0, location=(0, 0, 0.75))
    texture: Any = bpy.data.textures.new("Clouds", "CLOUDS")
    texture.noise_scale = 0.9
    modifier = _active().modifiers.new("Displace", "DISPLACE")
    modifier.texture, modifier.strength = texture, 0.9


def _chair() -> None:
    def block(size: Place, place: Place) -> None:
        bpy.ops.mesh.primitive_cube_add(size=1, location=place)
        _active().scale = size

    block((1.1, 1.1, 0.12), (0, 0, 0.9))
    block((1.1, 0.12, 1.2), (0, 0.5, 1.5))
    for x in (-0.47, 0.47):
        for y in (-0.47, 0.47):
            block((0.12, 0.12, 0.9), (x, y, 0.45))


def _cup() -> None:
    bpy.ops.mesh.primitive_cylinder_add(vertices=48, radius=0.8, depth=1.4, location=(-0.15, 0, 0.7))
    bpy.ops.mesh.primitive_torus_add(
        major_radius=0.42, minor_radius=0.1, location=(0.75, 0, 0.75), rotation=(math.pi / 2, 0, 0)
    )
    bpy.ops.object.shade_smooth()


def _columns() -> None:
    for x in (-1.0, 0.0, 1.0):
        bpy.ops.mesh.primitive_cylinder_add(vertices=32, radius=0.22, depth=1.7, location=(x, 0, 0.85))
    bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, 1.82))
    _active().scale = (2.8, 0.7, 0.24)


def _pipe() -> None:
    data: Any = bpy.data.curves.new("Pipe", "CURVE")
    data.dimensions, data.bevel_depth, data.bevel_resolution = "3D", 0.2, 6
    spline = data.splines.new("POLY")
    turns = [math.tau * index / 90 for index in range(90)]
    spline.points.add(len(turns) - 1)
    for point, t in zip(spline.points, turns, strict=True):
        point.co = (
            0.38 * (math.sin(t) + 2 * math.sin(2 * t)),
            -0.38 * math.sin(3 * t),
            1.35 + 0.38 * (math.cos(t) - 2 * math.cos(2 * t)),
            1,
        )
    spline.use_cyclic_u = True
    _link(bpy.data.objects.new("Pipe", data))


def _letter() -> None:
    data: Any = bpy.data.curves.new("Letter", "FONT")
    data.body, data.extrude, data.bevel_depth, data.size = "G", 0.25, 0.04, 2.6
    data.align_x = "CENTER"
    letter = bpy.data.objects.new("Letter", data)
    letter.rotation_euler = (math.pi / 2, 0, 0.25)
    letter.location = (0, 0, 0.1)
    _link(letter)


def _blob() -> None:
    data: Any = bpy.data.metaballs.new("Blob")
    data.resolution = 0.08
    for place in ((-0.6, 0, 0.6), (0.3, 0, 0.7), (0.7, 0.2, 1.3), (-0.1, 0, 1.4)):
        element = data.elements.new()
        element.co, element.radius = place, 1.0
    _link(bpy.data.objects.new("Blob", data))


def _spheres() -> None:
    for place, radius in (((-0.7, 0, 0.7), 0.7), ((0.65, 0.1, 0.5), 0.5), ((0.2, -0.8, 0.3), 0.3)):
        bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=24, radius=radius, location=place)
        bpy.ops.object.shade_smooth()


SCENES: dict[str, Callable[[], None]] = {
    "suzanne": _suzanne, "cubes": _cubes, "rock": _rock, "chair": _chair, "cup": _cup, "columns": _columns,
    "pipe": _pipe, "letter": _letter, "blob": _blob, "spheres": _spheres,
}  # fmt: skip


def _link(thing: Any) -> None:
    collection: Any = bpy.context.collection
    collection.objects.link(thing)


def _add_camera(scene: Any) -> None:
    data = bpy.data.cameras.new("Camera")
    data.lens = 50.0
    camera: Any = bpy.data.objects.new("Camera", data)
    _link(camera)
    camera.location = (1.3, -5.2, 2.5)
    camera.rotation_euler = (mathutils.Vector((0, 0, 0.9)) - camera.location).to_track_quat("-Z", "Y").to_euler()
    scene.camera = camera


def captured(capture_camera: Callable[..., Any]) -> dict[str, np.ndarray]:
    """The open scene's maps, and what is subject and what is ground: found by looking again without the subject."""
    kinds = ("depth", "normal", "line")
    found = capture_camera(bpy.context, SIZE, SIZE, kinds).maps.arrays()
    things = [thing for thing in bpy.context.scene.objects if thing.type != "CAMERA" and thing.name != "Ground"]
    for thing in things:
        thing.hide_render = thing.hide_viewport = True
    bare = capture_camera(bpy.context, SIZE, SIZE, ("depth",)).maps.depth
    for thing in things:
        thing.hide_render = thing.hide_viewport = False
    nearer = found["depth"] < bare - 1e-3
    return {**found, "subject": nearer, "ground": np.isfinite(bare) & ~nearer}


def main(folder: Path, lines: Path | None = None) -> None:
    """Captures each scene into `folder`. lines: where the line maps alone go too, times 255, for a test."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = max(Path("dist").glob("grisaille-*.zip"), key=lambda path: path.stat().st_mtime)
    bpy.ops.wm.read_factory_settings()
    bpy.ops.extensions.package_install_files(
        filepath=str(archive.resolve()), repo="user_default", enable_on_install=True, overwrite=True
    )
    capture = importlib.import_module(f"{PACKAGE}.addon.capture.capture")
    line_maps: dict[str, Any] = {}
    for name in SCENES:
        build(name)
        arrays: dict[str, Any] = captured(capture.capture_camera)
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        line_maps[name] = (arrays["line"] * 255).astype(np.uint8)
        print(name)
    if lines is not None:
        np.savez_compressed(lines, **line_maps)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
