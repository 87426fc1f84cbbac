"""Where tiles lie along one axis of a picture, and how neighbours are blended. Both axes are planned like this.

A tile is longer than what comes of it: at each seam its outermost pixels only tell the network what is beside, and of
the rest a short ramp is shared with its neighbour. The ramps of two neighbours add up to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RAMP_PART = 8
"""The ramp is this part of an overlap; what is left is for the network to look around in."""


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """One tile of an axis. start, stop: what the network reads, in the picture's pixels; outside 0..length in a ring.

    out_start, out_stop: the pixels of the result that come of it. weights: (out_stop - out_start,) float32, 0..1.
    head, tail: how many of those are shared with the tile before and the one after.
    """

    start: int
    stop: int
    out_start: int
    out_stop: int
    weights: NDArray[np.float32]
    head: int
    tail: int


def plan_axis(
    length: int,
    out_length: int,
    tile: int,
    overlap: int,
    *,
    align: int = 1,
    ring: bool = False,
    ramp_part: float = RAMP_PART,
) -> list[Tile]:
    """The tiles of an axis in order, all of the same size but perhaps the last.

    length, out_length: of the axis, before and after, in pixels. tile: pixels that the network reads at once, at most.
    overlap: pixels that neighbours both read, at least. align: starts are multiples of it. ring: the axis goes round,
    as in a texture that tiles, and the first tile sees what the last one shows. ramp_part: see RAMP_PART.
    """
    align = max(1, align)
    tile, overlap = up(tile, align), up(overlap, align)
    around = up(overlap // 2, align) if ring else 0
    low, high = -around, length + around
    if high - low <= tile:
        return [_tile(low, high, 0.0, 0.0, float(length), 0.0, length, out_length)]
    last = up(high - tile - low, align)
    count = 1 + math.ceil(last / (tile - overlap))
    starts = [low + align * round(last * index / (count - 1) / align) for index in range(count)]
    seams = [(starts[index + 1] + min(starts[index] + tile, high)) / 2 for index in range(count - 1)]
    ramp = overlap / ramp_part
    edges = [0.0, *seams, float(length)]
    return [
        _tile(
            start,
            min(start + tile, high),
            edges[index],
            ramp if index > 0 else 0.0,
            edges[index + 1],
            ramp if index < count - 1 else 0.0,
            length,
            out_length,
        )
        for index, start in enumerate(starts)
    ]


def _tile(
    start: int, stop: int, left: float, ramp_left: float, right: float, ramp_right: float, length: int, out_length: int
) -> Tile:
    """left, right: the seams, in pixels of the picture; the ramps lie around them."""
    step = length / out_length
    first = _first_after(left - ramp_left / 2, step)
    end = min(out_length, _first_after(right + ramp_right / 2, step))
    places = (np.arange(first, end) + 0.5) * step
    weights = np.ones(end - first)
    head = tail = 0
    if ramp_left > 0:
        head = _first_after(left + ramp_left / 2, step) - first
        weights[:head] = rising((places[:head] - left) / ramp_left + 0.5)
    if ramp_right > 0:
        tail = end - _first_after(right - ramp_right / 2, step)
        weights[len(weights) - tail :] = 1.0 - rising((places[len(weights) - tail :] - right) / ramp_right + 0.5)
    return Tile(start, stop, first, end, weights.astype(np.float32), head, tail)


def _first_after(place: float, step: float) -> int:
    """The first pixel of the result whose centre lies at or after a place in the picture."""
    return max(0, math.ceil(place / step - 0.5))


def rising(t: NDArray[Any]) -> NDArray[Any]:
    """0 at 0, 1 at 1, level at both ends."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def up(value: int, multiple: int) -> int:
    """The least multiple that is no smaller."""
    return -(-value // multiple) * multiple
