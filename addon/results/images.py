"""PNG bytes as packed image datablocks, with their provenance."""

from __future__ import annotations

import json

import bpy

from ...backend.wire import GenerationRequest

NAME_MAX = 48
"""Of the prompt's characters in an image's name; Blender's names end at 63 bytes in older files."""


def pack(name: str, png: bytes) -> bpy.types.Image:
    """A new image whose packed file is `png`, byte for byte. Nothing is decoded until it is shown."""
    image = bpy.data.images.new(name, 1, 1)
    image.pack(data=png, data_len=len(png))  # pyright: ignore[reportArgumentType]
    image.source = "FILE"
    return image


def pack_result(job_id: str, request: GenerationRequest, png: bytes, origin: dict[str, str]) -> bpy.types.Image:
    """The picture of a finished job as an image that remembers its Request, its job and its view."""
    words = " ".join(request.prompt.split())
    image = pack(f"Grisaille {words[:NAME_MAX].strip()}".strip(), png)
    image["grisaille_job"] = job_id
    image["grisaille_request"] = json.dumps(request.to_json())
    image["grisaille_view"] = origin.get("view", "")
    return image


def replace(name: str, png: bytes) -> bpy.types.Image:
    """An image called `name` with these bytes, in the place of the one of that name that we made before."""
    old = bpy.data.images.get(name)
    image = pack(name, png)
    image["grisaille_control"] = True
    if old is not None and old.get("grisaille_control"):
        old.user_remap(image)
        bpy.data.images.remove(old)
        image.name = name
    return image


def show(images: list[bpy.types.Image]) -> bool:
    """Shows the pictures in the open Image Editors, one each while there are any. False where none is open.

    The last pictures are left out when there are fewer editors; a pinned editor is left alone.
    """
    editors = [
        area
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "IMAGE_EDITOR" and not area.spaces.active.use_image_pin  # pyright: ignore
    ]
    for area, image in zip(editors, images, strict=False):
        area.spaces.active.image = image  # pyright: ignore[reportAttributeAccessIssue]
        area.tag_redraw()
    return bool(editors)
