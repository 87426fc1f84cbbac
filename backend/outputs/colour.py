"""Pictures between number formats, and between the values that a screen shows (sRGB) and light (linear)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def to_float(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """uint8 or uint16 -> 0..1."""
    import numpy as np

    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 as it is; uint16 to the nearest of 256 values."""
    import numpy as np

    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def linear_of(display: NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB's display values, 0..1 -> linear light with the same (Rec. 709) primaries. IEC 61966-2-1."""
    import numpy as np

    low, high = display / 12.92, ((np.maximum(display, 0.0) + 0.055) / 1.055) ** 2.4
    return np.where(display <= 0.04045, low, high).astype(np.float32)


def display_of(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of `linear_of`."""
    import numpy as np

    low, high = linear * 12.92, 1.055 * np.maximum(linear, 0.0) ** (1.0 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, low, high).astype(np.float32)
