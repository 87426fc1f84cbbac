"""What one tile of a picture becomes: its colours, what is beyond them, and what is transparent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .back_projection import back_projected
from .networks import Network
from .pixels import Kind, as_float, fill_hidden, surroundings
from .resample import resample, taken
from .tiles import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE_MIN = 16
"""Networks get nothing smaller than this: some cannot take it."""


@dataclass(frozen=True, eq=False, slots=True)
class TileWork:
    """How the tiles of a picture are to be made. network: None to resample only. kind: see `Kind`.

    size, out_size: (height, width) of the whole picture, before and after. fidelity: see `upscale`.
    """

    network: Network | None
    kind: Kind
    is_tileable: bool
    size: tuple[int, ...]
    out_size: tuple[int, ...]
    fidelity: float = 1.0

    def tile(self, pixels: NDArray[Any], row: Tile, column: Tile) -> NDArray[np.float32]:
        """(h, w, c) of the whole picture -> (rows, columns, c) float32 of the result that come of one tile."""
        crop = as_float(self._cut(pixels, row, column))
        at = row, column
        if crop.shape[2] not in (2, 4):
            parts = [self._colours(part, at) for part in self._together(crop)]
            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        alpha = crop[..., -1:]
        colours = fill_hidden(crop[..., :-1], np.clip(alpha, 0.0, 1.0))
        return np.concatenate(
            [*(self._colours(part, at) for part in self._together(colours)), self._alpha(alpha, at)], 2
        )

    def _cut(self, pixels: NDArray[Any], row: Tile, column: Tile) -> NDArray[Any]:
        if not self.is_tileable:
            return pixels[row.start : row.stop, column.start : column.stop]
        rows = pixels.take(range(row.start, row.stop), axis=0, mode="wrap")
        return rows.take(range(column.start, column.stop), axis=1, mode="wrap")

    def _together(self, colours: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The channels that go through the network at once: one by one where each is for itself."""
        count = colours.shape[2]
        alone = self.kind == "data" or (self.network is not None and self.network.channels == 1)
        return [colours[..., index : index + 1] for index in range(count)] if alone else [colours]

    def _colours(self, colours: NDArray[np.float32], at: tuple[Tile, Tile]) -> NDArray[np.float32]:
        """What a screen cannot show goes past the network, and is added after it."""
        shown = np.clip(colours, 0.0, 1.0)
        found = self._through(shown, at)
        beyond = colours - shown
        return found + self._resampled(_tensor(beyond), at, 1) if beyond.any() else found

    def _alpha(self, alpha: NDArray[np.float32], at: tuple[Tile, Tile]) -> NDArray[np.float32]:
        """No pixel beyond what its surroundings have: what was fully there, or not at all, stays so."""
        row, column = at
        if (alpha == alpha[0, 0]).all():
            shape = row.out_stop - row.out_start, column.out_stop - column.out_start, 1
            return np.full(shape, alpha[0, 0, 0], np.float32)
        rows = _nearest(row, self.size[0], self.out_size[0], alpha.shape[0])
        columns = _nearest(column, self.size[1], self.out_size[1], alpha.shape[1])
        low, high = (bound[rows][:, columns] for bound in surroundings(alpha))
        return np.clip(self._through(np.clip(alpha, 0.0, 1.0), at), low, high)

    def _through(self, shown: NDArray[np.float32], at: tuple[Tile, Tile]) -> NDArray[np.float32]:
        """(h, w, 1 or 3) of a crop, 0..1 -> what the network makes of it, at the size of the result."""
        image = _tensor(shown)
        if self.network is None:
            return _shown(self._resampled(image, at, 1))
        height, width = shown.shape[:2]
        short = max(0, SIDE_MIN - width), max(0, SIDE_MIN - height)
        given = pad(image, (0, short[0], 0, short[1]), mode="replicate").expand(-1, self.network.channels, -1, -1)
        scale = self.network.scale
        found = self.network(given)[..., : height * scale, : width * scale]
        if shown.shape[2] == 1:
            found = found.mean(1, keepdim=True)
        if scale > 1:
            found = back_projected(found, image, self.fidelity)
        return _shown(self._resampled(found, at, scale))

    def _resampled(self, image: Tensor, at: tuple[Tile, Tile], scale: int) -> NDArray[np.float32]:
        rows, columns = (
            taken(
                tile.out_start, tile.out_stop, out, tile.start * scale, tile.stop * scale, length * scale,
                ring=self.is_tileable,
            )
            for tile, out, length in zip(at, self.out_size, self.size, strict=True)
        )  # fmt: skip
        return resample(image, rows, columns)[0].permute(1, 2, 0).cpu().numpy()


def _shown(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, with what a screen cannot show cut off."""
    return np.clip(values, 0.0, 1.0, out=values)


def _tensor(values: NDArray[np.float32]) -> Tensor:
    """(h, w, c) -> (1, c, h, w)"""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]


def _nearest(tile: Tile, length: int, out_length: int, there: int) -> NDArray[np.intp]:
    """Of each pixel of the result, which of the crop's pixels it lies in."""
    places = (np.arange(tile.out_start, tile.out_stop) + 0.5) * length / out_length
    return np.clip(places.astype(np.intp) - tile.start, 0, there - 1)
