"""A picture projected on objects from the view it was seen from, by shader nodes alone.

Position in the world → the view's clip space → image coordinates. It needs no UV map and no modifier, so it is
the same in Cycles, EEVEE and the viewport. Where the picture does not reach (outside its frame, behind the view,
on surfaces that face away) the material that was there before lends its base colour. What is hidden behind
something else is not told apart: it gets the picture too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from mathutils import Vector

from .. import compat

if TYPE_CHECKING:
    from ..capture import View

BASE_COLOUR = (0.8, 0.8, 0.8, 1.0)
FACING_FADE = (0.02, 0.2)
"""The cosines between the surface and the view from where to where the picture fades in."""
MARK = "grisaille_projection"


def project(image: bpy.types.Image, view: View, objects: list[bpy.types.Object]) -> list[bpy.types.Object]:
    """Gives each object with material slots the picture, seen from `view`; returns those that got it.

    The slots are linked to the object, so that the mesh and its other users keep their materials: `restore` goes back.
    """
    made: dict[bpy.types.Material | None, bpy.types.Material] = {}
    reached = []
    for found in objects:
        if not hasattr(found.data, "materials"):
            continue
        if not found.material_slots:
            found.data.materials.append(None)  # pyright: ignore
        for slot in found.material_slots:
            old = original(slot.material)
            if old not in made:
                made[old] = make_material(image, view, old)
            slot.link = "OBJECT"
            slot.material = made[old]
        reached.append(found)
    return reached


def restore(objects: list[bpy.types.Object]) -> int:
    """Puts back the materials that were there before `project`; returns how many slots changed."""
    changed = 0
    for found in objects:
        for index, slot in enumerate(found.material_slots):
            material = slot.material
            if material is None or MARK not in material:
                continue
            slot.material = None
            old, meshs = original(material), found.data.materials[index]  # pyright: ignore
            if meshs is old:
                slot.link = "DATA"
            else:
                slot.material = old
            changed += 1
            if material.users == 0:
                bpy.data.materials.remove(material)
        if len(found.material_slots) == 1 and found.material_slots[0].material is None and changed:
            found.data.materials.clear()  # pyright: ignore
    return changed


def original(material: bpy.types.Material | None) -> bpy.types.Material | None:
    """The user's own material, under ours when it is one of ours."""
    if material is None or MARK not in material:
        return material
    return material.get("grisaille_original")


def make_material(image: bpy.types.Image, view: View, old: bpy.types.Material | None) -> bpy.types.Material:
    """A material that shows `image` from `view` and falls back to the base colour of `old`."""
    material: Any = bpy.data.materials.new(image.name)
    material[MARK] = True
    if old is not None:
        material["grisaille_original"] = old
    compat.give_nodes(material)
    material.diffuse_color = base_colour(old)
    _build(material.node_tree, image, view, base_colour(old))
    return material


def base_colour(material: bpy.types.Material | None) -> tuple[float, ...]:
    """The base colour (linear RGBA) of a material's Principled BSDF, else its viewport colour, else light grey."""
    if material is None:
        return BASE_COLOUR
    nodes = material.node_tree.nodes if material.node_tree else ()
    principled = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
    if principled is not None:
        return tuple(principled.inputs["Base Color"].default_value)  # pyright: ignore
    colour: Any = material.diffuse_color
    return tuple(colour)


def _build(tree: Any, image: bpy.types.Image, view: View, colour: tuple[float, ...]) -> None:
    tree.nodes.clear()
    nodes = Graph(tree)
    geometry = nodes.add("ShaderNodeNewGeometry")
    position, normal = geometry.outputs["Position"], geometry.outputs["Normal"]
    clip = view.projection_matrix() @ view.world_to_view_matrix()
    # (clip / w + 1) / 2, with the halves folded into the matrix
    across, up, w = 0.5 * (clip[0] + clip[3]), 0.5 * (clip[1] + clip[3]), clip[3]
    divisor = nodes.affine(position, w)
    u = nodes.math("DIVIDE", nodes.affine(position, across), divisor)
    v = nodes.math("DIVIDE", nodes.affine(position, up), divisor)
    picture = nodes.add("ShaderNodeTexImage")
    picture.image, picture.extension, picture.interpolation = image, "CLIP", "Linear"
    nodes.join(nodes.vector(u, v), picture.inputs["Vector"])
    before = nodes.math("GREATER_THAN", nodes.affine(position, -view.world_to_view_matrix()[2]), 0.0)
    mask = nodes.math("MULTIPLY", nodes.facing(position, normal, view), before)
    mask = nodes.math("MULTIPLY", mask, picture.outputs["Alpha"])
    base = nodes.add("ShaderNodeBsdfPrincipled")
    base.inputs["Base Color"].default_value = colour
    # The picture has its light in it already: shown as it is, not lit again.
    light = nodes.add("ShaderNodeEmission")
    nodes.join(picture.outputs["Color"], light.inputs["Color"])
    mix = nodes.add("ShaderNodeMixShader")
    output = nodes.add("ShaderNodeOutputMaterial")
    nodes.join(mask, mix.inputs[0])
    nodes.join(base.outputs[0], mix.inputs[1])
    nodes.join(light.outputs[0], mix.inputs[2])
    nodes.join(mix.outputs[0], output.inputs["Surface"])
    tree.nodes.active = picture


class Graph:
    """Shader nodes as arithmetic: sockets in, sockets out, laid out from left to right."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree

    def add(self, kind: str) -> Any:
        node = self.tree.nodes.new(kind)
        place = len(self.tree.nodes) - 1
        node.location = (place // 4 * 220.0, -(place % 4) * 300.0)
        return node

    def join(self, value: Any, socket: Any) -> None:
        """Links a socket, or sets a constant."""
        if isinstance(value, int | float | tuple | Vector):
            socket.default_value = value
        else:
            self.tree.links.new(value, socket)

    def math(self, operation: str, a: Any, b: Any) -> Any:
        node = self.add("ShaderNodeMath")
        node.operation = operation
        self.join(a, node.inputs[0])
        self.join(b, node.inputs[1])
        return node.outputs[0]

    def vector_math(self, operation: str, a: Any, b: Any = None) -> Any:
        """The result's socket: "Value" for a dot product, else "Vector"."""
        node = self.add("ShaderNodeVectorMath")
        node.operation = operation
        self.join(a, node.inputs[0])
        if b is not None:
            self.join(b, node.inputs[1])
        return node.outputs["Value" if operation == "DOT_PRODUCT" else "Vector"]

    def vector(self, x: Any, y: Any) -> Any:
        node = self.add("ShaderNodeCombineXYZ")
        self.join(x, node.inputs[0])
        self.join(y, node.inputs[1])
        return node.outputs[0]

    def affine(self, position: Any, row: Vector) -> Any:
        """row · (position, 1)"""
        return self.math("ADD", self.vector_math("DOT_PRODUCT", position, row.xyz), row.w)

    def facing(self, position: Any, normal: Any, view: View) -> Any:
        """0..1: whether the surface faces the view, fading in where it is seen almost edge-on."""
        to_world = view.world_to_view_matrix().inverted_safe()
        if view.is_orthographic:
            towards: Any = (to_world.to_3x3() @ Vector((0.0, 0.0, 1.0))).normalized()
        else:
            offset = self.vector_math("SUBTRACT", tuple(to_world.translation[:]), position)
            towards = self.vector_math("NORMALIZE", offset)
        node = self.add("ShaderNodeMapRange")
        node.interpolation_type = "SMOOTHSTEP"
        self.join(self.vector_math("DOT_PRODUCT", normal, towards), node.inputs["Value"])
        node.inputs["From Min"].default_value, node.inputs["From Max"].default_value = FACING_FADE
        return node.outputs[0]
