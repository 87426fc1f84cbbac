"""Writes a .blend with Rigify's metarigs and the rig that it makes of the human one; run by a Python that has bpy.

In a process of its own, ended by force: with Rigify on, Blender 4.5 hangs at its exit.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import bpy

ANIMALS = ("basic_quadruped", "cat", "horse", "wolf", "bird", "shark")


def make(operator: Any, name: str) -> None:
    """Names what the operator leaves active."""
    operator()
    made: Any = bpy.context.object
    made.name = name


def main(path: str) -> None:
    import addon_utils

    bpy.ops.wm.read_factory_settings(use_empty=True)
    assert addon_utils.enable("rigify", default_set=True) is not None
    for name in (*ANIMALS, "human"):
        make(getattr(bpy.ops.object, f"armature_{name}_metarig_add"), name)
    pose: Any = bpy.ops.pose
    make(pose.rigify_generate, "generated")
    bpy.ops.wm.save_as_mainfile(filepath=path)


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)
