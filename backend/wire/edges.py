"""Edges of pictures and of line maps: Gaussian smoothing, Canny's detector, thinning. Arrays in, arrays out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]

REACH = 3.5
"""A Gaussian's kernel ends after so many standard deviations."""
NEIGHBOURS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""Row and column steps to a pixel's neighbours, clockwise from the one above."""
STEEP = math.tan(math.radians(67.5))
FLAT = math.tan(math.radians(22.5))


def smoothed(values: NDArray[np.floating], sigma: float) -> Floats:
    """(height, width) or (height, width, n) blurred by a Gaussian of `sigma` pixels; the border's values go on outside.

    A sigma of 0 changes nothing.
    """
    import numpy as np

    result = np.asarray(values, np.float32)
    radius = math.ceil(REACH * sigma)
    if radius == 0:
        return result
    places = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (places / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        size = result.shape[axis]
        wide = np.moveaxis(
            np.pad(result, [(radius if at == axis else 0,) * 2 for at in range(result.ndim)], "edge"), axis, 0
        )
        total = np.zeros((size, *wide.shape[1:]), np.float32)
        for first, weight in enumerate(kernel.astype(np.float32)):
            total += wide[first : first + size] * weight
        result = np.moveaxis(total, 0, axis)
    return result


def canny(grey: NDArray[np.floating], low: float, high: float) -> Mask:
    """Edges one pixel wide (height, width) of a grey picture 0..255, which is smoothed already.

    low, high: bounds of |gx| + |gy| by Sobel's operator; an edge above `high` is followed as long as it stays above
    `low` (Canny, "A computational approach to edge detection", 1986).
    """
    import numpy as np

    padded = np.pad(np.asarray(grey, np.float32), 1, mode="edge")
    rows = padded[:-2] + 2.0 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2.0 * padded[:, 1:-1] + padded[:, 2:]
    across: Floats = np.asarray(rows[:, 2:] - rows[:, :-2], np.float32)
    down: Floats = np.asarray(columns[2:] - columns[:-2], np.float32)
    strength = np.abs(across) + np.abs(down)
    weak = _is_peak(strength, across, down) & (strength > low)
    return connected(weak, weak & (strength > high))


def _is_peak(strength: Floats, across: Floats, down: Floats) -> Mask:
    """Where no neighbour along the gradient, in steps of 45 degrees, is stronger; of equal ones the last."""
    import numpy as np

    is_flat = np.abs(down) <= FLAT * np.abs(across)
    is_steep = np.abs(down) >= STEEP * np.abs(across)
    falls = across * down > 0.0
    ways = ((0, 1, is_flat), (1, 0, is_steep & ~is_flat), (1, 1, falls & ~is_flat & ~is_steep))
    ways += ((1, -1, ~falls & ~is_flat & ~is_steep),)
    height, width = strength.shape
    padded = np.pad(strength, 1)
    peak = np.zeros(strength.shape, bool)
    for row, column, is_way in ways:
        after = padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]
        before = padded[1 - row : 1 - row + height, 1 - column : 1 - column + width]
        peak |= is_way & (strength > after) & (strength >= before)
    return peak


def connected(weak: Mask, strong: Mask) -> Mask:
    """The parts of `weak`, eight neighbours to a pixel, in which some pixel is `strong`."""
    import numpy as np

    height, width = weak.shape
    open_places = np.pad(weak, 1).ravel()
    found = np.pad(strong & weak, 1).ravel()
    steps = np.array([row * (width + 2) + column for row, column in NEIGHBOURS])
    frontier = np.flatnonzero(found)
    while frontier.size:
        around = (frontier[:, None] + steps).ravel()
        frontier = np.unique(around[open_places[around] & ~found[around]])
        found[frontier] = True
    return found.reshape(height + 2, width + 2)[1:-1, 1:-1]


def thinned(mask: Mask) -> Mask:
    """The same lines one pixel wide, connected as they were (Zhang and Suen, "A fast parallel algorithm", 1984)."""
    import numpy as np

    lines = np.pad(mask, 1)
    while True:
        before = lines.sum()
        for is_second in (False, True):
            up, _, right, _, down, _, left, _ = around = _around(lines)
            count = np.sum(around, axis=0)
            turns = np.sum([~one & other for one, other in zip(around, (*around[1:], around[0]), strict=True)], axis=0)
            goes = lines[1:-1, 1:-1] & (count >= 2) & (count <= 6) & (turns == 1)
            if is_second:
                goes &= ~(up & right & left) & ~(up & down & left)
            else:
                goes &= ~(up & right & down) & ~(right & down & left)
            lines[1:-1, 1:-1] &= ~goes
        if lines.sum() == before:
            return lines[1:-1, 1:-1]


def _around(padded: Mask) -> tuple[Mask, ...]:
    """Each pixel's eight neighbours, in the order of NEIGHBOURS."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    return tuple(padded[1 + row : 1 + row + height, 1 + column : 1 + column + width] for row, column in NEIGHBOURS)
