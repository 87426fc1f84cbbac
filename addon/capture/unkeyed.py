"""Keeps what the user posed but did not key: a render sets animated properties back to their animation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

from .. import compat


@contextmanager
def unkeyed_values_kept(view_layer: bpy.types.ViewLayer) -> Iterator[None]:
    """Puts every animated or driven property of the file back to the value that it had, also on an error."""
    before = [(block, path, _value(block, path)) for block in _animated_blocks() for path in _animated_paths(block)]
    try:
        yield
    finally:
        changed = False
        for block, path, value in before:
            if value is not None and _value(block, path) != value:
                _set(block, path, value)
                changed = True
        if changed:
            view_layer.update()


def _animated_blocks() -> Iterator[Any]:
    for item in bpy.data.bl_rna.properties:
        if item.type != "COLLECTION":
            continue
        for block in getattr(bpy.data, item.identifier):
            for owner in (block, getattr(block, "node_tree", None)):
                if getattr(owner, "animation_data", None) is not None:
                    yield owner


def _animated_paths(block: Any) -> set[str]:
    """The properties that the block's actions, NLA strips and drivers set, without an array's index."""
    animation = block.animation_data
    curves = list(animation.drivers)
    actions = [animation.action] + [strip.action for track in animation.nla_tracks for strip in track.strips]
    for action in actions:
        if action is not None:
            curves += compat.action_curves(action)
    return {curve.data_path for curve in curves}


def _value(block: Any, path: str) -> Any:
    """The property's value, or None where the path leads nowhere."""
    try:
        value = block.path_resolve(path)
    except ValueError:
        return None
    if value is None or isinstance(value, bool | int | float | str | set):
        return value
    try:
        return tuple(value)
    except TypeError:
        return None


def _set(block: Any, path: str, value: Any) -> None:
    owner_path, dot, name = path.rpartition(".")
    if path.endswith('"]'):
        # A custom property is reached by its key: 'pose.bones["a.b"]["twist"]'.
        owner_path, _bracket, key = path[:-2].rpartition('["')
        owner = block.path_resolve(owner_path) if owner_path else block
        owner[key] = value
        return
    owner = block.path_resolve(owner_path) if dot else block
    setattr(owner, name, value)
