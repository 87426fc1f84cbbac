"""Images of the file as arrays: display values, in another size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
DISPLAY_SPACES = ("sRGB", "Non-Color")
"""Float images of these hold values as they are shown; the others hold light."""


def read_pixels(image: Any) -> Pixels:
    """(height, width, 4) float32 display values with alpha, the top row first."""
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


UNIT = 0.1
"""How far from 1 a direction's length may be in a normal map, of 8 bits and compressed."""
SAMPLES = 10_000


def kind_of(image: Any) -> str:
    """What an image holds, of `enhancement.DATA_KINDS`: colours unless it says that it holds none.

    Numbers are normals where nine in ten of some pixels are directions of length 1 that look out of the surface.
    """
    if image.colorspace_settings.name != "Non-Color":
        return "colour"
    if image.channels < 3:
        return "data"
    values = read_pixels(image)[..., :3].reshape(-1, 3)
    values = values[:: max(1, len(values) // SAMPLES)] * 2.0 - 1.0
    is_direction = (np.abs(np.linalg.norm(values, axis=1) - 1.0) < UNIT) & (values[:, 2] > -UNIT)
    # A grey of one value could be one by chance.
    return "normal" if is_direction.mean() > 0.9 and np.ptp(values, axis=1).max() > UNIT else "data"


def exact_pixels(image: Any, kind: str) -> NDArray[Any]:
    """(height, width, 3, or 4 where something is transparent) uint8 or, of an image of floats, uint16; top row first.

    kind: of `enhancement.DATA_KINDS`; light becomes display values where it is of colours.
    """
    if kind != "colour" and image.is_float:
        width, height = image.size
        values = np.empty(width * height * image.channels, np.float32)
        image.pixels.foreach_get(values)
        values = values.reshape(height, width, image.channels)[::-1]
    else:
        values = read_pixels(image)
    if values.shape[2] == 4 and (values[..., 3] >= 1.0).all():
        values = values[..., :3]
    most, dtype = (65535.0, np.uint16) if image.is_float else (255.0, np.uint8)
    return np.ascontiguousarray(np.rint(values.clip(0.0, 1.0) * most).astype(dtype))


def _display(light: Pixels) -> Pixels:
    """Linear light -> sRGB's display values (IEC 61966-2-1)."""
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
