"""From a graphics card's depth and matcap colours to planar depth and camera-space normals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
LOOKUP_STEPS = 4096


def planar_depth(window_depth: FloatArray, projection: tuple[float, ...]) -> FloatArray:
    """Distance along the view's axis, in scene units, from (height, width) depths 0..1; 1 is the sky and becomes inf.

    projection: 4x4, row after row, view space to clip space.
    """
    scale, offset, is_orthographic = projection[10], projection[11], projection[14] == 0.0
    clip = window_depth.astype(np.float64) * 2.0 - 1.0
    with np.errstate(divide="ignore"):
        depth = (offset - clip) / scale if is_orthographic else offset / (clip + scale)
    return np.where(window_depth >= 1.0, np.float32(np.inf), depth.astype(np.float32))


def camera_normals(colour: FloatArray, depth: FloatArray, projection: tuple[float, ...]) -> FloatArray:
    """Camera-space normals (height, width, 3) from the colours of Blender's normal matcap; sky is 0, 0, 0.

    colour: (height, width, 3 or 4), linear light. depth: planar, sky = inf. The matcap shows srgb(n / 2 + 1/2) of
    the normal as seen along each pixel's own line of sight, so the picture's centre is the camera's frame and the
    rest is turned away from it.
    """
    height, width = depth.shape
    table = _normal_of_colour()
    seen = depth < np.inf
    index = np.clip(colour[..., :3] * np.float32(LOOKUP_STEPS - 1) + np.float32(0.5), 0, LOOKUP_STEPS - 1)
    local = table[index.astype(np.uint16)]
    if projection[14] != 0.0:
        local = _from_line_of_sight(local, *_lines_of_sight(width, height, projection))
    length = np.sqrt(np.einsum("hwc,hwc->hw", local, local))
    local *= (seen / np.maximum(length, np.float32(1e-6)))[..., None].astype(np.float32)
    return local


def _normal_of_colour() -> FloatArray:
    light = np.linspace(0.0, 1.0, LOOKUP_STEPS)
    coded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (coded * 2.0 - 1.0).astype(np.float32)


def _lines_of_sight(width: int, height: int, projection: tuple[float, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The unit vectors from what is seen towards the viewer: x, y and z, each (height, width), top row first."""
    x = (np.arange(width, dtype=np.float32) + 0.5) * (2.0 / width) - 1.0
    y = 1.0 - (np.arange(height, dtype=np.float32) + 0.5) * (2.0 / height)
    toward_x = -(x + projection[2]) / projection[0]
    toward_y = -(y + projection[6]) / projection[5]
    toward_x, toward_y = np.float32(toward_x)[None, :], np.float32(toward_y)[:, None]
    length = 1.0 / np.sqrt(toward_x**2 + toward_y**2 + 1.0)
    return toward_x * length, toward_y * length, length


def _from_line_of_sight(local: FloatArray, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Turns normals from the frame whose z is the line of sight (x, y, z) to the camera's frame."""
    right, up, toward = local[..., 0], local[..., 1], local[..., 2]
    share = (right * x + up * y) / (1.0 + z)
    turned = np.empty_like(local)
    turned[..., 0] = right + x * (toward - share)
    turned[..., 1] = up + y * (toward - share)
    turned[..., 2] = toward * z - right * x - up * y
    return turned
