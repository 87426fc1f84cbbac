"""PNG bytes as packed image datablocks, with their provenance."""

from __future__ import annotations

import functools
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
    image = pack(_name(request, origin), png)
    if space := origin.get("colorspace"):
        image.colorspace_settings.name = space  # pyright: ignore[reportAttributeAccessIssue]
    image["grisaille_job"] = job_id
    image["grisaille_request"] = json.dumps(request.to_json())
    image["grisaille_view"] = origin.get("view", "")
    return image


def _name(request: GenerationRequest, origin: dict[str, str]) -> str:
    """Of the prompt's words, or of the image that was enhanced."""
    if source := origin.get("image"):
        scale = request.enhancement.scale if request.enhancement is not None else 1.0
        return f"{source[:NAME_MAX]} {f'x{scale:g}' if scale > 1.0 else 'enhanced'}"
    words = " ".join(request.prompt.split())
    return f"Grisaille {words[:NAME_MAX].strip()}".strip()


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


def show(images: list[bpy.types.Image]) -> None:
    """Shows the pictures in the open Image Editors, one each while there are any.

    The last pictures are left out when there are fewer editors; a pinned editor is left alone. Where none is open,
    a window with one opens, as for a render, unless the preferences keep renders out of sight.
    """
    editors = _editors()
    for area, image in zip(editors, images, strict=False):
        area.spaces.active.image = image  # pyright: ignore[reportAttributeAccessIssue]
        area.tag_redraw()
    keeps_out = bpy.context.preferences.view.render_display_type == "NONE"
    if images and not editors and not bpy.app.background and not keeps_out:
        # Not here: a window takes its time, and this may be the middle of a job's arrival.
        bpy.app.timers.register(functools.partial(_open_editor, images[0].name), first_interval=0.0)


def show_where_empty(image: bpy.types.Image) -> None:
    """Shows the picture in the Image Editors that show none: Ctrl-Z took its forerunner from one."""
    for area in _editors():
        if area.spaces.active.image is None:  # pyright: ignore[reportAttributeAccessIssue]
            area.spaces.active.image = image  # pyright: ignore[reportAttributeAccessIssue]
            area.tag_redraw()


def _editors() -> list[bpy.types.Area]:
    return [
        area
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "IMAGE_EDITOR" and not area.spaces.active.use_image_pin  # pyright: ignore
    ]


def _open_editor(name: str) -> None:
    """Opens a window that shows the image of that name, if it is still there and no editor was opened since."""
    windows = bpy.context.window_manager.windows
    image = bpy.data.images.get(name)
    if image is None or not windows:
        return
    if not _editors():
        before = {window.as_pointer() for window in windows}
        with bpy.context.temp_override(window=windows[0]):  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue]
            bpy.ops.wm.window_new()
        opened = next((window for window in windows if window.as_pointer() not in before), None)
        if opened is None:
            return
        opened.screen.areas[0].type = "IMAGE_EDITOR"
    show([image])
