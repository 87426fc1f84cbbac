"""One run of a network over a whole picture, tile by tile, into the finished number format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .one_tile import TileWork
from .pixels import from_float, unit_normals
from .tiles import Tile, plan_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Pass:
    """work: what is done to each tile. rows, columns: where the tiles lie."""

    work: TileWork
    rows: list[Tile]
    columns: list[Tile]

    @classmethod
    def of(cls, work: TileWork, side: int, overlap: int) -> Pass:
        """side: pixels of a tile. overlap: pixels that neighbours both read."""
        align = 1 if work.network is None else work.network.align
        rows, columns = (
            plan_axis(length, out, side, overlap, align=align, ring=work.is_tileable)
            for length, out in zip(work.size, work.out_size, strict=True)
        )
        return cls(work, rows, columns)

    @property
    def tiles(self) -> int:
        return len(self.rows) * len(self.columns)

    def run(
        self, pixels: NDArray[Any], dtype: np.dtype[Any], tell: Callable[[int], None], check: Callable[[], None]
    ) -> NDArray[Any]:
        """(h, w, c) -> the result. Of what is not finished only the ramps to the next tile and the next row are kept.

        tell: given how many tiles are done. check: called before each.
        """
        channels = pixels.shape[2]
        out = np.empty((*self.work.out_size, channels), dtype)
        below = np.empty((max(row.tail for row in self.rows), self.work.out_size[1], channels), np.float32)
        done = 0
        for row in self.rows:
            beside = np.empty((0, 0, channels), np.float32)
            for column in self.columns:
                check()
                found: NDArray[Any] = self.work.tile(pixels, row, column)
                found *= row.weights[:, None, None] * column.weights[None, :, None]
                ready, beside = self._joined(found, column, beside)
                self._finish(ready, row, column, below, out)
                done += 1
                tell(done)
        return out

    def _joined(
        self, found: NDArray[np.float32], column: Tile, beside: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The weighed tile with its neighbour's part -> what is finished of it from left to right, and its own part."""
        if column.head:
            found[:, : column.head] += beside
        width = found.shape[1] - column.tail
        return found[:, :width], found[:, width:].copy()

    def _finish(
        self,
        ready: NDArray[np.float32],
        row: Tile,
        column: Tile,
        below: NDArray[np.float32],
        out: NDArray[Any],
    ) -> None:
        """Adds what the row above left, keeps what the row below shares, and writes the rest into the result."""
        across = slice(column.out_start, column.out_start + ready.shape[1])
        if row.head:
            ready[: row.head] += below[: row.head, across]
        last = ready.shape[0] - row.tail
        below[: row.tail, across] = ready[last:]
        finished = ready[:last]
        if self.work.kind == "normal" and ready.shape[2] >= 3:
            finished = unit_normals(finished)
        out[row.out_start : row.out_start + last, across] = from_float(finished, out.dtype)
