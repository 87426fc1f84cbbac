"""The picture while it is being made, as an icon: no datablock, so the file stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import state

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "preview"
SIDE_MAX = 128
"""Pixels; icons of more are scaled by Blender while it draws."""


def show(image: NDArray[np.uint8]) -> None:
    """Takes a preview, (height, width, 3) uint8 with the top row first."""
    import bpy.utils.previews
    import numpy as np

    current = state.get()
    if current.previews is None:
        current.previews = bpy.utils.previews.new()
    current.previews.clear()
    icon = current.previews.new(NAME)
    stride = -(-max(image.shape[:2]) // SIDE_MAX)
    small = image[::stride, ::stride][::-1]
    pixels = np.ones((*small.shape[:2], 4), np.float32)
    pixels[..., :3] = small / np.float32(255.0)
    icon.image_size = small.shape[1], small.shape[0]
    icon.image_pixels_float.foreach_set(pixels.ravel())


def icon_id() -> int:
    """The icon of the last preview; 0 when there is none."""
    previews = state.get().previews
    return previews[NAME].icon_id if previews is not None and NAME in previews else 0


def clear() -> None:
    """Drops the preview."""
    current = state.get()
    if current.previews is not None:
        import bpy.utils.previews

        bpy.utils.previews.remove(current.previews)
        current.previews = None
