"""What a picture starts from: the images of the file that a script or the panel names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bpy

from ...backend.wire import ControlMaps, FailureError, FailureKind
from ...backend.wire.request import has_strength, is_from_picture, sources_of
from .. import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .jobs import Order

STRENGTH = 0.6
"""Where a script names a picture and nothing else."""
REQUEST_NAMES = (
    "prompt", "width", "height", "seed", "steps", "guidance", "model", "sampler", "schedule", "strength",
    "reference_strength", "enhance", "speed",
)  # fmt: skip
"""The Request's fields that a script may set one by one."""
REFERENCE_SIDE = 1024
"""In pixels; what reads a reference looks at far fewer."""


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


def from_names(order: Order, image: str, mask: str, edit: str = "") -> Order:
    """The order, starting from the images of those names; "" leaves it as it is. edit: one for the prompt to change.

    Raises `FailureError` (bad_request) on one to edit beside one to start from.
    """
    if edit and (image or mask):
        raise _bad("There is a picture to edit and one to start from.", "Name one of the two.")
    if edit or (image and not mask and order.request.task == "edit"):
        return replace(order, request=replace(order.request, task="edit", strength=1.0), image=edit or image)
    if not image and not mask:
        return order
    task = "inpaint" if mask or order.request.task == "inpaint" else "image_to_image"
    strength = order.request.strength if has_strength(order.request.task) else STRENGTH
    request = replace(order.request, task=task, strength=strength)
    return replace(order, request=request, image=image or order.image, mask=mask or order.mask)


def with_reference(order: Order, name: str) -> Order:
    """The order with the image of that name as its reference; "" leaves it as it is."""
    if not name:
        return order
    strength = order.request.reference_strength or settings.REFERENCE_STRENGTH
    return replace(order, request=replace(order.request, reference_strength=strength), reference=name)


def check(order: Order) -> None:
    """Raises `FailureError` (bad_request) where the order lacks an image that it takes."""
    if "reference" in sources_of(order.request):
        if not order.reference:
            raise _bad("There is no reference picture.", "Choose one, or set the reference's strength to 0.")
        named_image(order.reference)
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
    """The maps with the picture and the mask that the order starts from, and its reference."""
    if "reference" in sources_of(order.request):
        maps = replace(maps, reference=_reference(order.reference))
    if order.request.task == "enhance":
        return replace(maps, picture=_picture(order))
    if not is_from_picture(order.request.task):
        return maps
    import numpy as np

    from ..capture.image_pixels import fitted, read_pixels

    size = order.request.width, order.request.height
    picture = fitted(read_pixels(named_image(order.image)), *size)
    image = _bytes(picture)
    if order.request.task != "inpaint":
        return replace(maps, image=image)
    pixels = fitted(read_pixels(named_image(order.mask)), *size)
    mask = (pixels[..., :3].mean(2) * pixels[..., 3]).clip(0.0, 1.0).astype(np.float32)
    return replace(maps, image=image, mask=np.ascontiguousarray(mask))


def _picture(order: Order) -> NDArray[Any]:
    """The image that is to be enhanced, with all that it holds."""
    from ..capture.image_pixels import exact_pixels

    enhancement = order.request.enhancement
    return exact_pixels(named_image(order.image), enhancement.data if enhancement is not None else "colour")


def _reference(name: str) -> NDArray[np.uint8]:
    """(rows, columns, 3) uint8: the whole image, made smaller where it is large."""
    from ..capture.image_pixels import fitted, read_pixels

    pixels = read_pixels(named_image(name))
    rows, columns = pixels.shape[:2]
    shrink = min(1.0, REFERENCE_SIDE / max(rows, columns))
    return _bytes(fitted(pixels, max(1, round(columns * shrink)), max(1, round(rows * shrink))))


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Display values (rows, columns, 3 or more) -> (rows, columns, 3) uint8."""
    import numpy as np

    return np.rint(pixels[..., :3].clip(0.0, 1.0) * 255.0).astype(np.uint8)


def _bad(message: str, hint: str, detail: str = "") -> FailureError:
    return FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
