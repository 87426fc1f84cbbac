"""Line art from depth and normals: where a surface ends in front of another, and where it folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

STEP_SOFT, STEP_HARD = 0.004, 0.008
"""A step in depth begins to be a line, and is a whole line, at these shares of the picture's longer side."""
BEND_SOFT, BEND_HARD = 0.4, 1.0
"""Less than this many times the slope beside it, a step is a surface that bends away."""
FOLD_SOFT, FOLD_HARD = 18.0, 32.0
"""Degrees between neighbouring normals."""


def lines_from_maps(depth: FloatArray, normal: FloatArray, projection: tuple[float, ...]) -> FloatArray:
    """Lines (height, width) 0..1, one to two pixels wide, on the nearer side of each edge.

    depth, normal: as in `ControlMaps`. projection: 4x4, row after row, view space to clip space.
    A plane's 1/depth (its depth, seen orthographically) is linear across the picture, so that what is left after
    continuing each side's slope is a step in depth, however grazing the plane.
    """
    import numpy as np

    height, width = depth.shape
    is_orthographic = projection[14] == 0.0
    longer = max(width, height)
    # World size of a pixel at distance 1 (at any distance when orthographic).
    pixel = max(2.0 / (abs(projection[0]) * width), 2.0 / (abs(projection[5]) * height))
    near = _nearness(depth, is_orthographic)
    unit = pixel * longer
    fold_low, fold_high = np.cos(np.radians(FOLD_HARD)), np.cos(np.radians(FOLD_SOFT))
    line = np.zeros((height, width), np.float32)
    seen = np.isfinite(depth)
    for flip in (False, True):
        values, normals, there, out = near, normal, seen, line
        if flip:
            values, normals, there, out = near.T, normal.transpose(1, 0, 2), seen.T, line.T
        _mark_steps(values, out, unit, is_orthographic)
        _mark_folds(normals, there, out, np.float32(fold_low), np.float32(fold_high))
    return line


def _nearness(depth: FloatArray, is_orthographic: bool) -> FloatArray:
    """Greater is nearer, linear across a plane; the sky is farther than anything."""
    import numpy as np

    if not is_orthographic:
        with np.errstate(divide="ignore"):
            return np.asarray(np.float32(1.0) / np.maximum(depth, np.float32(1e-9)), np.float32)
    seen = np.isfinite(depth)
    if not seen.any():
        return np.zeros_like(depth)
    nearest, farthest = float(depth[seen].min()), float(depth[seen].max())
    sky = farthest + 10.0 * (farthest - nearest) + 1e3
    return np.where(seen, -depth, np.float32(-sky))


def _mark_steps(near: FloatArray, line: FloatArray, unit: float, is_orthographic: bool) -> None:
    """Compares each pixel with the next along the last axis."""
    import numpy as np

    slope = near[:, 1:] - near[:, :-1]
    before = np.zeros_like(slope)
    before[:, 1:] = slope[:, :-1]
    after = np.zeros_like(slope)
    after[:, :-1] = slope[:, 1:]
    step = np.minimum(np.abs(slope - before), np.abs(slope - after))
    steepest = np.maximum(np.abs(before), np.abs(after))
    clear = np.clip((step - BEND_SOFT * steepest) / ((BEND_HARD - BEND_SOFT) * steepest + np.float32(1e-20)), 0.0, 1.0)
    if not is_orthographic:
        # As a share of the nearer side: how far behind it the other side is, in the nearer side's distances.
        step /= np.maximum(np.maximum(near[:, 1:], near[:, :-1]), np.float32(1e-12))
    strength = np.clip((step / unit - STEP_SOFT) / (STEP_HARD - STEP_SOFT), 0.0, 1.0) * clear
    first_is_nearer = slope < 0
    np.maximum(line[:, :-1], strength * first_is_nearer, out=line[:, :-1])
    np.maximum(line[:, 1:], strength * ~first_is_nearer, out=line[:, 1:])


def _mark_folds(
    normal: FloatArray, seen: NDArray[np.bool_], line: FloatArray, low: np.float32, high: np.float32
) -> None:
    import numpy as np

    alike = np.einsum("hwc,hwc->hw", normal[:, 1:], normal[:, :-1])
    # Against the sky, whose normal is 0, the step in depth has drawn the line already.
    strength = np.clip((high - alike) / (high - low), 0.0, 1.0) * (seen[:, 1:] & seen[:, :-1])
    np.maximum(line[:, :-1], strength, out=line[:, :-1])
