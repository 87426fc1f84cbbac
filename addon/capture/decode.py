"""From a graphics card's depth and matcap colours to planar depth and camera-space normals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
LOOKUP_STEPS = 16384


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

    colour: (height, width, 2 or more), linear light. depth: planar, sky = inf. Red and green show x and y of the
    normal as seen along each pixel's own line of sight: the picture's centre is in the camera's frame, the rest is
    turned away from it. Along that line a visible normal points to the viewer, which gives its z.
    """
    height, width = depth.shape
    index = np.clip(colour[..., :2] * np.float32(LOOKUP_STEPS - 1) + np.float32(0.5), 0, LOOKUP_STEPS - 1)
    across = normal_of_matcap(LOOKUP_STEPS)[index.astype(np.uint16)]
    right, up = across[..., 0], across[..., 1]
    seen = np.isfinite(depth).astype(np.float32)
    if _is_mirrored(right, up, depth, projection):
        right = -right
    sideways = right * right + up * up
    toward: FloatArray = np.asarray(np.sqrt(np.maximum(np.float32(0.0), np.float32(1.0) - sideways)), np.float32)
    scale: FloatArray = np.asarray(seen / np.sqrt(np.maximum(np.float32(1.0), sideways)), np.float32)
    sight = _lines_of_sight(width, height, projection)
    return _from_line_of_sight(right * scale, up * scale, toward * scale, *sight)


def normal_of_matcap(steps: int) -> FloatArray:
    """The normal's x (or y), -1..1, for `steps` values 0..1 of the matcap's red (or green), linear light.

    The three constants are a least-squares fit to the colours of Blender's check_normal+y.exr, the same in both
    axes and in all versions that have it; they are within 0.0023 of it.
    """
    light = np.linspace(0.0, 1.0, steps)
    return np.clip(2.01441 * light ** (1.0 / 2.22) - 1.00642, -1.0, 1.0).astype(np.float32)


def _is_mirrored(right: FloatArray, up: FloatArray, depth: FloatArray, projection: tuple[float, ...]) -> bool:
    """Whether the 3D view's matcap is flipped, a switch that cannot be read: the slope of the depth tells.

    A few thousand pixels are enough.
    """
    height, width = depth.shape
    if min(height, width) < 3:
        return False
    every = max(1, min(width, height) // 96)
    rows, columns = np.arange(1, height - 1, every), np.arange(1, width - 1, every)
    here = np.ix_(rows, columns)
    across = depth[here], depth[np.ix_(rows, columns - 1)], depth[np.ix_(rows, columns + 1)]
    upward = depth[np.ix_(rows - 1, columns)], depth[np.ix_(rows + 1, columns)]
    x, y = _places(width, height, projection)
    slopes = _normals_of_slopes(*across, *upward, x[:, columns], y[rows], (width, height), projection)
    sight = [np.broadcast_to(axis, depth.shape)[here] for axis in _lines_of_sight(width, height, projection)]
    right, up = right[here], up[here]
    toward = np.sqrt(np.maximum(np.float32(0.0), 1.0 - right * right - up * up))
    straight, mirrored = (_from_line_of_sight(side, up, toward, *sight) for side in (right, -right))
    return float((mirrored * slopes).sum()) > float((straight * slopes).sum()) + 1e-3 * slopes.size


def normals_of_depth(depth: FloatArray, projection: tuple[float, ...]) -> FloatArray:
    """Camera-space normals (height, width, 3) of the flat faces that neighbouring depths make; sky is 0, 0, 0."""
    height, width = depth.shape
    # Beyond the border lies sky, which is never the gentler neighbour.
    wide = np.pad(depth, 1, constant_values=np.inf)
    across = depth, wide[1:-1, :-2], wide[1:-1, 2:]
    upward = wide[:-2, 1:-1], wide[2:, 1:-1]
    return _normals_of_slopes(*across, *upward, *_places(width, height, projection), (width, height), projection)


def _normals_of_slopes(
    depth: FloatArray,
    left: FloatArray,
    right: FloatArray,
    above: FloatArray,
    below: FloatArray,
    x: FloatArray,
    y: FloatArray,
    size: tuple[int, int],
    projection: tuple[float, ...],
) -> FloatArray:
    """Normals of pixels by their own and their neighbours' depths; x and y are their places (`_places`).

    1/depth (depth, seen orthographically) is linear across a plane. Of the two neighbours the one with the gentler
    slope counts: it lies on the same surface.
    """
    is_orthographic = projection[14] == 0.0
    near, before, after, over, under = (_nearness(one, is_orthographic) for one in (depth, left, right, above, below))
    slope_x = _gentler(near - before, after - near) * np.float32(projection[0] * size[0] / 2.0)
    slope_y = _gentler(over - near, near - under) * np.float32(projection[5] * size[1] / 2.0)
    toward = np.ones_like(near) if is_orthographic else near - slope_x * x - slope_y * y
    normal: Any = np.stack([-slope_x, -slope_y, toward], axis=-1)
    length = np.sqrt(np.einsum("hwc,hwc->hw", normal, normal))
    scale = np.asarray(np.isfinite(depth) / np.maximum(length, np.float32(1e-12)), np.float32)
    normal *= scale[..., None]
    return np.asarray(normal, dtype=np.float32)


def _nearness(depth: FloatArray, is_orthographic: bool) -> FloatArray:
    if is_orthographic:
        return np.where(np.isfinite(depth), -depth, np.float32(-1e9))
    return np.asarray(np.float32(1.0) / np.maximum(depth, np.float32(1e-9)), np.float32)


def _gentler(one: FloatArray, other: FloatArray) -> FloatArray:
    return np.where(np.abs(one) < np.abs(other), one, other)


def _places(width: int, height: int, projection: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    """x (1, width) and y (height, 1) of the pixels' centres on the plane one unit before the viewer, top row first."""
    x = (np.arange(width, dtype=np.float32) + 0.5) * (2.0 / width) - 1.0
    y = 1.0 - (np.arange(height, dtype=np.float32) + 0.5) * (2.0 / height)
    x, y = (x + projection[2]) / projection[0], (y + projection[6]) / projection[5]
    return x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]


def _lines_of_sight(
    width: int, height: int, projection: tuple[float, ...]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The unit vectors from what is seen towards the viewer: x, y and z, each spread over (height, width)."""
    if projection[14] == 0.0:
        return np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    x, y = _places(width, height, projection)
    length = (1.0 / np.sqrt(x**2 + y**2 + 1.0)).astype(np.float32)
    return np.asarray(-x * length, np.float32), np.asarray(-y * length, np.float32), length


def _from_line_of_sight(
    right: FloatArray, up: FloatArray, toward: FloatArray, x: FloatArray, y: FloatArray, z: FloatArray
) -> FloatArray:
    """Turns normals from the frame whose z is the line of sight (x, y, z) to the camera's frame."""
    tilt = right * x + up * y
    lean = toward - tilt / (1.0 + z)
    turned: Any = np.stack([right + x * lean, up + y * lean, toward * z - tilt], axis=-1)
    return turned
