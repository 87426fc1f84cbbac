"""Larger by doublings, with something that paints detail between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..wire import FailureError, FailureKind
from .networks import Network
from .pixels import as_float, from_float
from .tiles import Tile, plan_axis, rising, up
from .upscale import FACTOR_MIN, upscale

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 1024
"""Pixels of a tile that detail is painted into: what FLUX is at its surest with."""
OVERLAP = 128
ALIGN = 16
"""Tiles begin at multiples of a token's side, so that neighbours can have the same noise."""
STRETCH = 1.125
"""A tile may be so many times as long as it should be where that makes fewer of them; memory is planned for that."""
RAMP_PART = 2
"""Neighbours are blended over this part of an overlap; in the rest they only see each other."""
UPSCALING, PAINTING = 1, 10
"""What a step counts for in the progress, which is told in hundredths."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a tile lies in its picture, in that picture's pixels; in a tileable one it may reach over the borders.

    height, width: of that picture. A control map of another size is cut at the same parts of its sides.
    """

    top: int
    left: int
    bottom: int
    right: int
    height: int
    width: int


Detail = Callable[["NDArray[np.float32]", Box], "NDArray[np.float32]"]
"""(h, w, 3) float32, 0..1, and where it lies -> the same place with more detail, of the same shape."""


def progressive(
    picture: NDArray[Any],
    factor: float,
    network: Network | None,
    detail: Detail,
    *,
    fidelity: float = 1.0,
    tileable: bool = False,
    side: int = SIDE,
    overlap: int = OVERLAP,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
    ready: Callable[[], None] = lambda: None,
) -> NDArray[Any]:
    """Enlarges a picture of colours by doublings, and has detail painted in before the last step (2x, detail, 2x).

    The last step is one of 1.5 to 3; where that is the only one, detail comes after it. picture, factor, network,
    fidelity, tileable, progress, check: as `upscale` has them. detail: called for tiles of about `side` pixels that
    overlap by `overlap` and are blended there; transparency does not pass through it. ready: called before each use of
    the network, which may have been sent away for `detail` to have its place. Raises what `upscale` and `detail` raise.
    """
    factors = _steps(factor)
    count = len(factors)
    whole = UPSCALING * count + PAINTING * max(1, count - 1)
    told = 0

    def counting(weight: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(int(100 * (told + weight * done / total) / whole), 100)

    watch: Any = {"tileable": tileable, "check": check}
    for index, step in enumerate(factors):
        ready()
        picture = upscale(picture, step, network, fidelity=fidelity, progress=counting(UPSCALING), **watch)
        told += UPSCALING
        if index < count - 1 or count == 1:
            picture = with_detail(picture, detail, side=side, overlap=overlap, progress=counting(PAINTING), **watch)
            told += PAINTING
    return picture


def _steps(factor: float) -> list[float]:
    """Factors that make up another one. Doubled sides are whole numbers, so that the result has exactly its size."""
    return [2.0, *_steps(factor / 2.0)] if factor >= 2.0 * FACTOR_MIN else [factor]


def with_detail(
    picture: NDArray[Any],
    detail: Detail,
    *,
    tileable: bool = False,
    side: int = SIDE,
    overlap: int = OVERLAP,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> NDArray[Any]:
    """One pass of detail over a picture, of the same size and number format. See `progressive`."""
    pixels = picture[..., None] if picture.ndim == 2 else picture
    height, width, channels = pixels.shape
    axis = ring_axis if tileable else _axis
    rows, columns = (axis(length, side, overlap) for length in (height, width))
    colours = channels - (channels in (2, 4))
    above, beside = -rows[0].out_start, -columns[0].out_start
    summed = np.zeros((height + 2 * above, width + 2 * beside, colours), np.float32)
    done = 0
    for row in rows:
        for column in columns:
            check()
            found = _painted(pixels[..., :colours], row, column, detail)
            weights = row.weights[:, None, None] * column.weights[None, :, None]
            top, left = above + row.out_start, beside + column.out_start
            summed[top : top + len(row.weights), left : left + len(column.weights)] += found * weights
            done += 1
            progress(done, len(rows) * len(columns))
    out = pixels.copy()
    out[..., :colours] = from_float(_folded(_folded(summed, above, 0), beside, 1), pixels.dtype)
    return out[..., 0] if picture.ndim == 2 else out


def _axis(length: int, side: int, overlap: int) -> list[Tile]:
    return plan_axis(length, length, tile_side(length, side, overlap), overlap, align=ALIGN, ramp_part=RAMP_PART)


def ring_axis(length: int, side: int, overlap: int) -> list[Tile]:
    """The tiles of an axis that goes round, where the last one is blended with the first as all others are.

    What a tile makes depends on all that it sees, so to see round the border is not enough. Of the first and the last
    tile, out_start and out_stop lie outside of 0..length.
    """
    # What a tile needs to begin and end at multiples of ALIGN is left free.
    count = max(1, math.ceil(length / (int(side * STRETCH) - overlap - 2 * ALIGN)))
    step = length / count
    ramp = min(overlap / RAMP_PART, step)
    tiles = []
    for index in range(count):
        left, right = step * index, step * (index + 1)
        start = math.floor((left - overlap / 2) / ALIGN) * ALIGN
        stop = start + up(math.ceil(right + overlap / 2 - start), ALIGN)
        first, end = math.floor(left - ramp / 2), math.ceil(right + ramp / 2)
        places = np.arange(first, end) + 0.5
        weights = rising((places - left) / ramp + 0.5) - rising((places - right) / ramp + 0.5)
        tiles.append(Tile(start, stop, first, end, weights.astype(np.float32), 0, 0))
    return tiles


def _folded(values: NDArray[np.float32], margin: int, axis: int) -> NDArray[np.float32]:
    """What lies in the margins at both ends of an axis, added to where it is in the ring."""
    if not margin:
        return values
    moved = np.moveaxis(values, axis, 0)
    inner = moved[margin:-margin].copy()
    inner[-margin:] += moved[:margin]
    inner[:margin] += moved[-margin:]
    return np.moveaxis(inner, 0, axis)


def tile_side(length: int, side: int, overlap: int) -> int:
    """How long the tiles of an axis are: as few as may be, of at most STRETCH times the side, and of about a size."""
    most = int(side * STRETCH)
    count = 1 if length <= most else math.ceil((length - overlap) / (most - overlap))
    return up(math.ceil((length + (count - 1) * overlap) / count), ALIGN)


def _painted(pixels: NDArray[Any], row: Tile, column: Tile, detail: Detail) -> NDArray[np.float32]:
    """What comes of one tile: (rows, columns, 1 or 3) float32."""
    there = pixels.take(range(row.start, row.stop), axis=0, mode="wrap")
    crop = as_float(there.take(range(column.start, column.stop), axis=1, mode="wrap"))
    given = np.clip(np.broadcast_to(crop, (*crop.shape[:2], 3)), 0.0, 1.0)
    box = Box(row.start, column.start, row.stop, column.stop, *pixels.shape[:2])
    found = detail(np.ascontiguousarray(given), box)
    if found.shape != given.shape:
        raise FailureError.of(
            FailureKind.INTERNAL,
            "The detail of a part of the picture came out in another size.",
            "Try again; if it happens again, report it with the text under Details.",
            f"{found.shape} for {given.shape}",
        )
    if crop.shape[2] == 1:
        found = found.mean(2, keepdims=True)
    top, left = row.out_start - row.start, column.out_start - column.start
    return found[top : top + len(row.weights), left : left + len(column.weights)].astype(np.float32)
