"""Every difference between Blender versions, found by trying the feature and never by comparing version numbers."""

from __future__ import annotations

from typing import Any

import bpy


def gpu_context(start: bool = False) -> bool:
    """Whether the GPU can be drawn on from here.

    In a window it can. In background it can from the version on that has `gpu.init`, once that was called:
    `start` calls it (it needs EGL or a display, and takes about a second).
    """
    import gpu

    if not bpy.app.background:
        return True
    if not hasattr(gpu, "init"):
        return False
    try:
        if start:
            gpu.init()
        gpu.platform.backend_type_get()
    except (SystemError, RuntimeError):
        return False
    return True


def is_rendering() -> bool:
    """Whether a render job runs in this Blender's window."""
    return bool(bpy.app.is_job_running("RENDER"))


def write_multilayer_exr(image_settings: Any) -> None:
    """Sets a scene's output to an uncompressed 32-bit multilayer OpenEXR file."""
    if hasattr(image_settings, "media_type"):
        image_settings.media_type = "MULTI_LAYER_IMAGE"
    image_settings.file_format = "OPEN_EXR_MULTILAYER"
    image_settings.color_depth = "32"
    image_settings.exr_codec = "NONE"


def write_bmp(image_settings: Any) -> None:
    """Sets a scene's output to an uncompressed file of the colours as they are shown."""
    if hasattr(image_settings, "media_type"):
        image_settings.media_type = "IMAGE"
    image_settings.file_format = "BMP"
    image_settings.color_mode = "RGB"
    set_if_there(image_settings, color_management="FOLLOW_SCENE")


def set_if_there(owner: Any, **values: Any) -> None:
    """Sets the properties that this Blender has; the others belong to another version."""
    for name, value in values.items():
        if hasattr(owner, name):
            setattr(owner, name, value)


def give_nodes(material: Any) -> None:
    """Makes a new material's shader nodes where materials can be without them."""
    if getattr(material, "node_tree", None) is None:
        material.use_nodes = True


def action_curves(action: Any) -> list[Any]:
    """All of an action's F-curves, of all its slots where actions have slots."""
    if not hasattr(action, "layers"):
        return list(action.fcurves)
    return [
        curve
        for layer in action.layers
        for strip in layer.strips
        for bag in getattr(strip, "channelbags", ())
        for curve in bag.fcurves
    ]
