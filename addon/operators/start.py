"""What a picture starts from: images of the file, as arrays of the picture's size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bpy

from ...backend.wire import ControlMaps, FailureError, FailureKind
from ...backend.wire.request import is_from_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .jobs import Order

    Pixels = NDArray[np.float32]


STRENGTH = 0.6
"""Where a script names a picture and nothing else."""


def named_image(name: str) -> bpy.types.Image:
    """The image of that name, with pixels. Raises `FailureError` (bad_request)."""
    found = bpy.data.images.get(name)
    if found is None:
        raise _bad(f"There is no image called {name!r} in this file.", "Open it in an Image Editor first.")
    # The size is 0 where the file is missing, and where Blender keeps the pixels to itself, as of a render.
    if found.size[0] == 0 or found.size[1] == 0:
        hint = "Save it as a file and open that." if found.type == "RENDER_RESULT" else "Check that its file is there."
        raise _bad(f"The image {name!r} has no pixels to start from.", hint)
    return found


def load_image(path: str) -> str:
    """Opens a file as an image; returns its name. Raises `FailureError` (bad_request)."""
    try:
        return bpy.data.images.load(path).name
    except RuntimeError as error:
        raise _bad(f"The picture {path} cannot be opened.", "Check the file's name.", str(error)) from error


def from_names(order: Order, image: str, mask: str) -> Order:
    """The order, starting from the images of those names; "" leaves it as it is."""
    if not image and not mask:
        return order
    task = "inpaint" if mask or order.request.task == "inpaint" else "image_to_image"
    strength = order.request.strength if is_from_picture(order.request.task) else STRENGTH
    request = replace(order.request, task=task, strength=strength)
    return replace(order, request=request, image=image or order.image, mask=mask or order.mask)


def check(order: Order) -> None:
    """Raises `FailureError` (bad_request) where the order's task lacks an image that it starts from."""
    if not is_from_picture(order.request.task):
        return
    if not order.image:
        raise _bad("There is no picture to start from.", "Choose one under Start From, or start from noise.")
    named_image(order.image)
    if order.request.task == "inpaint":
        if not order.mask:
            raise _bad("There is no mask of what may change.", "Choose one under Start From, white where it may.")
        named_image(order.mask)


def with_source(maps: ControlMaps, order: Order) -> ControlMaps:
    """The maps with the picture and the mask that the order starts from."""
    if not is_from_picture(order.request.task):
        return maps
    import numpy as np

    size = order.request.width, order.request.height
    picture = fitted(read_pixels(named_image(order.image)), *size)
    image = np.rint(picture[..., :3].clip(0.0, 1.0) * 255.0).astype(np.uint8)
    if order.request.task != "inpaint":
        return replace(maps, image=image)
    pixels = fitted(read_pixels(named_image(order.mask)), *size)
    mask = (pixels[..., :3].mean(2) * pixels[..., 3]).clip(0.0, 1.0).astype(np.float32)
    return replace(maps, image=image, mask=np.ascontiguousarray(mask))


def read_pixels(image: Any) -> Pixels:
    """(height, width, 4) float32 display values with alpha, the top row first."""
    import numpy as np

    width, height = image.size
    values = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(height, width, image.channels)[::-1]
    if image.channels < 3:
        values = np.concatenate([values[..., :1]] * 3 + [values[..., 1:2]], axis=2)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., : values.shape[2]] = values
    if image.is_float and image.colorspace_settings.name not in DISPLAY_SPACES:
        pixels[..., :3] = _display(pixels[..., :3])
    return pixels


DISPLAY_SPACES = ("sRGB", "Non-Color")
"""Float images of these hold values as they are shown; the others hold light."""


def _display(light: Pixels) -> Pixels:
    """Linear light -> sRGB's display values (IEC 61966-2-1)."""
    import numpy as np

    light = light.clip(0.0, 1.0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """(rows, columns, n) scaled to cover width x height, keeping its aspect, and cropped around the centre."""
    rows, columns = pixels.shape[:2]
    scale = max(width / columns, height / rows)
    top, left = (rows - height / scale) / 2, (columns - width / scale) / 2
    return _resampled(_resampled(pixels, 0, top, height / scale, height), 1, left, width / scale, width)


def _resampled(pixels: Pixels, axis: int, start: float, length: float, count: int) -> Pixels:
    """`count` places of the part start..start + length along an axis: means where it shrinks, linear where it grows."""
    import numpy as np

    size = pixels.shape[axis]
    if count == size and start == 0.0:
        return pixels
    step = length / count
    reach = max(step, 1.0)
    centres = start + (np.arange(count) + 0.5) * step - 0.5
    taps = int(np.ceil(reach)) * 2 + 1
    places = np.floor(centres)[:, None] + np.arange(taps) - taps // 2
    weights = np.clip(1.0 - np.abs(places - centres[:, None]) / reach, 0.0, None)
    weights /= weights.sum(1, keepdims=True)
    indices = np.clip(places, 0, size - 1).astype(np.intp)
    moved = np.moveaxis(pixels, axis, 0)
    shape = (count, *[1] * (moved.ndim - 1))
    total = np.zeros((count, *moved.shape[1:]), np.float32)
    for tap in range(taps):
        total += moved[indices[:, tap]] * weights[:, tap].reshape(shape).astype(np.float32)
    return np.moveaxis(total, 0, axis)


def _bad(message: str, hint: str, detail: str = "") -> FailureError:
    return FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
