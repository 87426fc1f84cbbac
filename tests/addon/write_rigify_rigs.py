"""Writes a .blend with Rigify's metarigs and the rig that it makes of the human one; run by a Python that has bpy.

In a process of its own, ended by force: with Rigify on, Blender 4.5 hangs at its exit.
"""

from __future__ import annotations

import os
import sys

import bpy

ANIMALS = ("basic_quadruped", "cat", "horse", "wolf", "bird", "shark")


def add(name: str) -> None:
    getattr(bpy.ops.object, f"armature_{name}_metarig_add")()
    bpy.context.object.name = name  # pyright: ignore[reportOptionalMemberAccess]


def main(path: str) -> None:
    import addon_utils

    bpy.ops.wm.read_factory_settings(use_empty=True)
    assert addon_utils.enable("rigify", default_set=True) is not None
    for animal in ANIMALS:
        add(animal)
    add("human")
    bpy.ops.pose.rigify_generate()  # pyright: ignore[reportAttributeAccessIssue]
    bpy.context.object.name = "generated"  # pyright: ignore[reportOptionalMemberAccess]
    bpy.ops.wm.save_as_mainfile(filepath=path)


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)
