"""Whether what a 3D view draws is what the camera would render, so that the fast draw may stand for the render."""

from __future__ import annotations

from typing import Any

import bpy

CURVE_TYPES = {"CURVE", "SURFACE", "FONT"}
SOLID_TYPES = CURVE_TYPES | {"MESH"}
"""What both truths draw as surfaces. The other types with geometry are drawn each in its own way."""
INVISIBLE_TYPES = {"EMPTY", "LIGHT", "CAMERA", "ARMATURE", "LATTICE", "SPEAKER", "LIGHT_PROBE"}


def truths_coincide(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, space: bpy.types.SpaceView3D) -> bool:
    """Whether a solid draw in this 3D view has the same geometry as a render of the view layer.

    Says no wherever it is not sure: then the render is asked.
    """
    if space.local_view is not None or space.use_local_collections or not _space_shows_all(space):
        return False
    if scene.render.use_simplify or not view_layer.use or not view_layer.use_solid:
        return False
    if scene.background_set is not None or view_layer.material_override is not None:
        return False
    if not _collections_agree(view_layer.layer_collection):
        return False
    in_layer = set(view_layer.objects)
    # A collection that is off in the viewport keeps its objects out of the layer's list, not out of the render.
    return all(_object_agrees(item, view_layer, item in in_layer) for item in scene.objects)


def _space_shows_all(space: bpy.types.SpaceView3D) -> bool:
    names = (f"show_object_viewport_{kind}" for kind in ("mesh", "curve", "surf", "meta", "font", "empty"))
    state = space.region_3d
    return all(getattr(space, name, True) for name in names) and not (state and state.use_clip_planes)


def _collections_agree(layer_collection: bpy.types.LayerCollection) -> bool:
    if layer_collection.exclude:
        return True
    collection = layer_collection.collection
    if layer_collection.holdout or layer_collection.indirect_only:
        return False
    if (layer_collection.hide_viewport or collection.hide_viewport) != collection.hide_render:
        return False
    return all(_collections_agree(child) for child in layer_collection.children)


def _object_agrees(item: bpy.types.Object, view_layer: bpy.types.ViewLayer, is_in_layer: bool) -> bool:
    if not is_in_layer:
        return True
    if item.type in INVISIBLE_TYPES and item.instance_type == "NONE":
        return True
    is_hidden = item.hide_viewport or item.hide_get(view_layer=view_layer)
    if is_hidden != item.hide_render:
        return False
    if is_hidden:
        return True
    if item.instance_type == "COLLECTION":
        return item.instance_collection is None or _instances_agree(item.instance_collection, set())
    return item.mode == "OBJECT" and _shape_agrees(item)


def _instances_agree(collection: bpy.types.Collection, seen: set[str]) -> bool:
    """Objects inside an instanced collection have no eye of their own, only the two visibility switches."""
    if collection.name in seen:
        return True
    seen.add(collection.name)
    for item in collection.all_objects:
        if item.hide_viewport != item.hide_render:
            return False
        if item.instance_type == "COLLECTION" and item.instance_collection is not None:
            if not _instances_agree(item.instance_collection, seen):
                return False
        elif item.type not in INVISIBLE_TYPES and not _shape_agrees(item):
            return False
    children = collection.children_recursive
    return all(child.hide_viewport == child.hide_render for child in children)


def _shape_agrees(item: bpy.types.Object) -> bool:
    if item.type not in SOLID_TYPES or item.instance_type != "NONE":
        return False
    if item.display_type not in ("SOLID", "TEXTURED") or item.show_in_front or len(item.particle_systems) > 0:
        return False
    if item.is_holdout or item.is_shadow_catcher or not item.visible_camera:
        return False
    if item.type in CURVE_TYPES and not _resolution_agrees(item.data):
        return False
    if any(not _modifier_agrees(modifier) for modifier in item.modifiers):
        return False
    return all(_is_opaque(slot.material) for slot in item.material_slots)


def _resolution_agrees(curve: Any) -> bool:
    """A resolution of 0 for the render means the viewport's."""
    return curve.render_resolution_u in (0, curve.resolution_u) and curve.render_resolution_v in (0, curve.resolution_v)


def _modifier_agrees(modifier: Any) -> bool:
    if modifier.show_viewport != modifier.show_render:
        return False
    if not modifier.show_viewport:
        return True
    if modifier.type in ("SUBSURF", "MULTIRES"):
        adaptive = getattr(modifier, "use_adaptive_subdivision", False)
        return modifier.levels == modifier.render_levels and not adaptive
    # A node tree can ask whether it runs in the viewport; these read their own render settings.
    return modifier.type not in ("NODES", "OCEAN", "PARTICLE_INSTANCE", "PARTICLE_SYSTEM", "FLUID", "SCREW")


def _is_opaque(material: bpy.types.Material | None) -> bool:
    """Whether neither truth sees through the surface, and neither moves it."""
    if material is None or material.node_tree is None:
        return True
    return getattr(material, "displacement_method", "BUMP") == "BUMP"
