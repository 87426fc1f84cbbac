"""A part of a picture, cut out of pictures of other sizes that show the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..enhance.progressive import Box

SURROUNDINGS = 3
"""Pixels that resampling reads beside those that it makes."""
FREE_MIN = 1e-3
"""A mask's value below this is none: it comes of resampling."""


@dataclass(frozen=True, slots=True)
class Window:
    """rows, columns: pixels that come out; those beyond the box's own lie to its right and below it.

    is_ring: the picture's borders meet. Beyond one's borders is what they repeat, else their last pixels.
    """

    box: Box
    rows: int
    columns: int
    is_ring: bool = False

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, 3) of any size, that show the whole -> (rows, columns, 3)."""
        from PIL import Image

        return self._resampled(picture, Image.Resampling.BICUBIC)

    def cut_mask(self, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        """(height, width), 0..1, of any size -> (rows, columns). What was 0 all around stays 0."""
        import numpy as np
        from PIL import Image

        found = self._resampled(mask, Image.Resampling.BILINEAR).clip(0.0, 1.0)
        return np.where(found < FREE_MIN, np.float32(0.0), found)

    def _resampled(self, picture: NDArray[Any], how: Any) -> NDArray[Any]:
        import numpy as np
        from PIL import Image

        places, ends = [], []
        sides = (
            (self.box.top, self.rows, self.box.height, picture.shape[0]),
            (self.box.left, self.columns, self.box.width, picture.shape[1]),
        )
        for start, count, whole, there in sides:
            scale = there / whole
            margin = SURROUNDINGS * max(1, math.ceil(scale))
            first, last = math.floor(start * scale) - margin, math.ceil((start + count) * scale) + margin
            index = np.arange(first, last)
            places.append(index % there if self.is_ring else index.clip(0, there - 1))
            ends.append((start * scale - first, (start + count) * scale - first))
        part = np.ascontiguousarray(picture[np.ix_(*places)])
        (top, bottom), (left, right) = ends
        image = Image.fromarray(part).resize((self.columns, self.rows), how, box=(left, top, right, bottom))
        return np.asarray(image).copy()
