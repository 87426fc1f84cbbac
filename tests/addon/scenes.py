"""Test scenes, each built from nothing by a script, with a camera that sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bpy
from mathutils import Euler, Vector


@dataclass(frozen=True)
class SceneKind:
    """A scene by its builder, and the size in pixels that it is looked at."""

    build: Callable[[], None]
    width: int = 256
    height: int = 192
    drawn_for_render: bool = True
    """Whether the quick draw may stand for the render: the check of truths must know."""


def empty() -> bpy.types.Scene:
    """A factory start with nothing in the scene."""
    bpy.ops.wm.read_homefile(use_empty=False, use_factory_startup=True)
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    return bpy.context.scene


def camera(
    place: tuple[float, float, float] = (6.0, -7.0, 5.0), target: tuple[float, float, float] = (0.0, 0.0, 0.5)
) -> Any:
    """Adds a camera that looks from a place at a target, and makes it the scene's."""
    lens = bpy.data.cameras.new("Camera")
    item = bpy.data.objects.new("Camera", lens)
    item.location = place
    item.rotation_euler = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(item)
    bpy.context.scene.camera = item
    return item


def add(shape: str, smooth: bool = False, **options: object) -> Any:
    """A mesh primitive: "cube", "uv_sphere", "monkey", "plane", "torus", "cone", "grid" …"""
    getattr(bpy.ops.mesh, f"primitive_{shape}_add")(**options)
    item = bpy.context.object
    if smooth:
        bpy.ops.object.shade_smooth()
    return item


def still_life() -> None:
    empty()
    camera()
    add("plane", size=12)
    add("cube", location=(-1.6, 0.4, 1.0), rotation=(0.0, 0.0, 0.5))
    add("uv_sphere", smooth=True, location=(1.2, 0.8, 1.0), segments=64, ring_count=32)
    add("monkey", smooth=True, location=(0.6, -1.8, 0.8), rotation=(0.2, 0.1, -0.6))


def shifted() -> None:
    still_life()
    lens = bpy.context.scene.camera.data
    lens.shift_x, lens.shift_y, lens.lens = 0.18, -0.12, 40.0


def orthographic() -> None:
    still_life()
    lens = bpy.context.scene.camera.data
    lens.type, lens.ortho_scale, lens.shift_x = "ORTHO", 7.5, 0.05


def rolled_and_scaled_camera() -> None:
    still_life()
    item = bpy.context.scene.camera
    item.rotation_euler.rotate_axis("Z", 0.7)
    item.scale = (2.0, 2.0, 2.0)
    holder = bpy.data.objects.new("holder", None)
    holder.rotation_euler = Euler((0.05, -0.1, 0.2))
    bpy.context.scene.collection.objects.link(holder)
    item.parent = holder


def tower() -> None:
    empty()
    camera((5.0, -9.0, 6.0), (0.0, 0.0, 4.0))
    add("plane", size=30)
    for floor in range(8):
        add("cylinder", location=(0.0, 0.0, floor + 0.5), radius=1.5 - floor * 0.12, depth=0.9, vertices=12)


def wide_street() -> None:
    empty()
    item = camera((0.0, -10.0, 1.6), (0.0, 0.0, 1.8))
    item.data.lens = 18.0
    add("plane", size=120)
    for row in range(6):
        for side in (-1, 1):
            height = 2.0 + (row * 7 + side) % 5
            add("cube", location=(side * 5.0, row * 5.0, height / 2), scale=(1.5, 2.0, height / 2))


def collection_instances() -> None:
    empty()
    camera((9.0, -9.0, 8.0), (0.0, 0.0, 0.0))
    add("plane", size=20)
    source = bpy.data.collections.new("source")
    item = add("monkey", smooth=True)
    item.users_collection[0].objects.unlink(item)
    source.objects.link(item)
    for index in range(16):
        copy = bpy.data.objects.new(f"copy{index}", None)
        copy.instance_type, copy.instance_collection = "COLLECTION", source
        copy.location = ((index % 4 - 1.5) * 2.6, (index // 4 - 1.5) * 2.6, 1.0)
        copy.rotation_euler = (0.0, 0.0, index * 0.7)
        # Every third is mirrored.
        copy.scale = (-0.9 if index % 3 == 0 else 0.9, 0.9, 0.9)
        bpy.context.scene.collection.objects.link(copy)


def modifiers() -> None:
    empty()
    camera()
    add("plane", size=12)
    soft = add("cube", smooth=True, location=(-1.8, 0.0, 1.2))
    levels = soft.modifiers.new("Subdivision", "SUBSURF")
    levels.levels = levels.render_levels = 3
    row = add("cube", location=(1.0, -1.5, 0.4), size=0.6)
    array = row.modifiers.new("Array", "ARRAY")
    array.count, array.relative_offset_displace = 3, (1.4, 0.0, 0.0)
    bevel = row.modifiers.new("Bevel", "BEVEL")
    bevel.width = 0.1
    bent = add("plane", location=(1.0, 1.5, 1.2), size=2.0, rotation=(1.2, 0.0, 0.4))
    bent.modifiers.new("Solidify", "SOLIDIFY").thickness = 0.3


def vertex_instances() -> None:
    empty()
    camera()
    parent = add("uv_sphere", location=(0.0, 0.0, 0.8), radius=2.0, segments=10, ring_count=6)
    child = add("cube", size=0.5)
    child.parent = parent
    parent.instance_type = "VERTS"
    parent.show_instancer_for_viewport = parent.show_instancer_for_render = False


def scattered_by_nodes() -> None:
    """Geometry nodes put copies of a cone on points of the ground."""
    empty()
    camera((7.0, -7.0, 5.0))
    ground, cone = add("plane", size=8), add("cone", vertices=24, location=(0.0, 0.0, 30.0))
    tree = bpy.data.node_groups.new("scatter", "GeometryNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=direction, socket_type="NodeSocketGeometry")
    nodes = {
        name: tree.nodes.new(f"{prefix}{name}")
        for prefix, names in (
            ("Node", ("GroupInput", "GroupOutput")),
            ("GeometryNode", ("DistributePointsOnFaces", "ObjectInfo", "InstanceOnPoints", "JoinGeometry")),
        )
        for name in names
    }
    nodes["ObjectInfo"].inputs["Object"].default_value = cone
    nodes["DistributePointsOnFaces"].inputs["Density"].default_value = 0.4
    nodes["InstanceOnPoints"].inputs["Scale"].default_value = 0.4, 0.4, 0.6
    for source, output, target, target_input in (
        ("GroupInput", "Geometry", "DistributePointsOnFaces", "Mesh"),
        ("DistributePointsOnFaces", "Points", "InstanceOnPoints", "Points"),
        ("ObjectInfo", "Geometry", "InstanceOnPoints", "Instance"),
        ("GroupInput", "Geometry", "JoinGeometry", "Geometry"),
        ("InstanceOnPoints", "Instances", "JoinGeometry", "Geometry"),
        ("JoinGeometry", "Geometry", "GroupOutput", "Geometry"),
    ):
        tree.links.new(nodes[source].outputs[output], nodes[target].inputs[target_input])
    ground.modifiers.new("scatter", "NODES").node_group = tree


def curves_and_text() -> None:
    empty()
    camera()
    add("plane", size=12)
    bpy.ops.curve.primitive_bezier_circle_add(location=(0.0, 0.0, 1.0), rotation=(0.6, 0.0, 0.0), radius=1.6)
    bpy.context.object.data.bevel_depth = 0.25
    bpy.ops.object.text_add(location=(-2.0, -2.0, 0.1), rotation=(1.2, 0.0, 0.4))
    bpy.context.object.data.body = "Form"
    bpy.context.object.data.extrude = 0.12
    bpy.ops.surface.primitive_nurbs_surface_sphere_add(location=(2.0, 1.0, 0.8))


def hills() -> None:
    empty()
    camera((7.0, -8.0, 2.2), (0.0, 0.0, 0.2))
    ground = add("grid", smooth=True, size=16, x_subdivisions=120, y_subdivisions=120)
    for vertex in ground.data.vertices:
        x, y = vertex.co.x, vertex.co.y
        vertex.co.z = 0.7 * math.sin(x * 0.9) * math.cos(y * 0.8) + 0.08 * math.sin(x * 5.0)


def sharp_and_smooth() -> None:
    empty()
    camera()
    add("plane", size=12)
    add("torus", smooth=True, location=(-1.2, 0.5, 0.9), rotation=(0.8, 0.3, 0.0), major_segments=64, minor_segments=24)
    cone = add("cone", location=(1.6, 0.0, 1.0), vertices=48)
    for face in cone.data.polygons:
        face.use_smooth = len(face.vertices) == 3
    for edge in cone.data.edges:
        edge.use_edge_sharp = all(abs(cone.data.vertices[corner].co.z + 1.0) < 1e-4 for corner in edge.vertices)
    mirrored = add("monkey", smooth=True, location=(0.4, -1.8, 0.7))
    mirrored.scale = (-0.8, 0.8, 0.8)


COINCIDING = {
    "still_life": SceneKind(still_life),
    "shifted": SceneKind(shifted),
    "orthographic": SceneKind(orthographic),
    "rolled_and_scaled_camera": SceneKind(rolled_and_scaled_camera),
    "portrait_tower": SceneKind(tower, 160, 288),
    "wide_street": SceneKind(wide_street, 384, 160),
    "collection_instances": SceneKind(collection_instances),
    "modifiers": SceneKind(modifiers),
    "vertex_instances": SceneKind(vertex_instances, drawn_for_render=False),
    "scattered_by_nodes": SceneKind(scattered_by_nodes, drawn_for_render=False),
    "curves_and_text": SceneKind(curves_and_text),
    "hills": SceneKind(hills),
    "sharp_and_smooth": SceneKind(sharp_and_smooth),
}
"""Scenes of which a 3D view draws what the camera renders."""
