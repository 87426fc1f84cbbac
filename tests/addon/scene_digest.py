"""Everything of a Blender session that a capture or a run must leave as it was, as comparable text."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np

KINDS = ("scenes", "objects", "collections", "materials", "node_groups", "worlds", "cameras", "lights", "linestyles")
KINDS += ("meshes", "curves", "images", "textures", "actions", "brushes", "palettes", "texts")
NOT_STATE = {"rna_type", "depsgraph", "preview", "original", "bl_rna", "id_data", "session_uid", "is_evaluated"}
"""Not settings: what Blender derives, or what leads back to where the walk came from."""
BULK = {"vertices", "edges", "loops", "polygons", "loop_triangles", "loop_triangle_polygons", "corner_normals"}
BULK |= {"vertex_normals", "polygon_normals", "attributes", "pixels", "points", "uv_layers", "color_attributes"}
DEPTH_MAX = 9


def session_digest() -> dict[str, str]:
    """Every setting by its path: all datablocks' properties and counts, modes, selection, windows, `is_dirty`."""
    with warnings.catch_warnings():
        # Reading a property that a later Blender drops warns.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _session_digest()


def _session_digest() -> dict[str, str]:
    found = {f"count.{name}": str(len(block)) for name, block in _data_collections()}
    for kind in KINDS:
        for block in getattr(bpy.data, kind):
            found.update(_walk(block, f"{kind}[{block.name_full}]", set(), 0))
            if kind == "meshes":
                found[f"meshes[{block.name_full}].geometry"] = _geometry(block)
    for number, window in enumerate(bpy.context.window_manager.windows):
        found[f"windows[{number}].scene"] = window.scene.name
        found[f"windows[{number}].view_layer"] = window.view_layer.name
        for index, area in enumerate(window.screen.areas):
            space = area.spaces.active
            if space is not None and space.type == "VIEW_3D":
                found.update(_walk(space, f"windows[{number}].areas[{index}]", set(), 0))
    found.update(_selection())
    preferences = bpy.context.preferences
    found["preferences.viewport_aa"] = preferences.system.viewport_aa
    found["preferences.is_dirty"] = str(preferences.is_dirty)
    found["is_dirty"] = str(bpy.data.is_dirty)
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line for each setting that is not the same, or only on one side."""
    paths = sorted(set(before) | set(after))
    return [
        f"{path}: {before.get(path, '(none)')} -> {after.get(path, '(none)')}"
        for path in paths
        if before.get(path) != after.get(path)
    ]


def _data_collections() -> Iterator[tuple[str, Any]]:
    for item in bpy.data.bl_rna.properties:
        if item.type == "COLLECTION":
            yield item.identifier, getattr(bpy.data, item.identifier)


def _selection() -> dict[str, str]:
    found: dict[str, str] = {}
    for scene in bpy.data.scenes:
        for layer in scene.view_layers:
            path = f"scenes[{scene.name}].layers[{layer.name}]"
            found[f"{path}.active"] = layer.objects.active.name if layer.objects.active else ""
            for item in layer.objects:
                state = (item.mode, item.select_get(view_layer=layer), item.hide_get(view_layer=layer))
                found[f"{path}.objects[{item.name}]"] = repr(state)
    return found


def _geometry(mesh: bpy.types.Mesh) -> str:
    places = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", places)
    return f"{len(mesh.polygons)} {hashlib.sha256(places.tobytes()).hexdigest()}"


def _walk(owner: Any, path: str, above: set[tuple[str, int]], depth: int) -> Iterator[tuple[str, str]]:
    # A struct inside another can share its address.
    place = (owner.bl_rna.identifier, owner.as_pointer())
    if depth > DEPTH_MAX or place in above:
        return
    above = above | {place}
    for item in owner.bl_rna.properties:
        name = item.identifier
        if name in NOT_STATE or name in BULK:
            continue
        try:
            value = getattr(owner, name)
        except (AttributeError, RuntimeError, ValueError, TypeError) as error:
            yield f"{path}.{name}", type(error).__name__
            continue
        yield from _walk_value(item, value, f"{path}.{name}", above, depth)
    if isinstance(owner, bpy.types.ID):
        yield f"{path}[custom]", repr(sorted((key, repr(value)) for key, value in owner.items()))


def _walk_value(item: Any, value: Any, path: str, above: set[tuple[str, int]], depth: int) -> Iterator[tuple[str, str]]:
    if item.type == "POINTER":
        if value is None or (isinstance(value, bpy.types.ID) and not value.is_embedded_data):
            yield path, value.name_full if value is not None else "None"
        else:
            yield from _walk(value, path, above, depth + 1)
    elif item.type == "COLLECTION":
        yield f"{path}.len", str(len(value))
        for index, member in enumerate(value):
            if isinstance(member, bpy.types.ID):
                yield f"{path}[{index}]", member.name_full
            elif member is not None:
                yield from _walk(member, f"{path}[{index}]", above, depth + 1)
    elif getattr(item, "is_array", False):
        yield path, repr([x if isinstance(x, bool | int | float) else list(x) for x in value])
    else:
        yield path, repr(value)
