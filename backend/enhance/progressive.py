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
from .tiles import Tile, plan_axis
from .upscale import upscale

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 1024
"""Pixels of a tile that detail is painted into: what FLUX is at its surest with."""
OVERLAP = 128
PARTS = 1000
"""Progress is told in so many parts a step."""


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
    tileable: bool = False,
    side: int = SIDE,
    overlap: int = OVERLAP,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> NDArray[Any]:
    """Enlarges a picture of colours in steps of about 2, and has detail painted in before the last (2x, detail, 2x).

    Where one step makes it, detail comes after that. picture, factor, network, tileable, progress, check: as `upscale`
    has them. detail: called for tiles of `side` pixels that overlap by `overlap` and are blended there; transparency
    does not pass through it. Raises what `upscale` and `detail` raise.
    """
    count = max(1, round(math.log2(factor))) if factor > 0 else 1
    whole = PARTS * (2 * count - 1 if count > 1 else 2)
    told = 0

    def step(done: int, total: int) -> None:
        progress(told + PARTS * done // total, whole)

    for index in range(count):
        picture = upscale(picture, factor ** (1 / count), network, tileable=tileable, progress=step, check=check)
        told += PARTS
        if index < count - 1 or count == 1:
            picture = with_detail(
                picture, detail, tileable=tileable, side=side, overlap=overlap, progress=step, check=check
            )
            told += PARTS
    return picture


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
    rows, columns = (plan_axis(length, length, side, overlap, ring=tileable, ramp_part=2) for length in (height, width))
    colours = channels - (channels in (2, 4))
    summed = np.zeros((height, width, colours), np.float32)
    done = 0
    for row in rows:
        for column in columns:
            check()
            found = _painted(pixels[..., :colours], row, column, detail)
            weights = row.weights[:, None, None] * column.weights[None, :, None]
            summed[row.out_start : row.out_stop, column.out_start : column.out_stop] += found * weights
            done += 1
            progress(done, len(rows) * len(columns))
    out = pixels.copy()
    out[..., :colours] = from_float(summed, pixels.dtype)
    return out[..., 0] if picture.ndim == 2 else out


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
