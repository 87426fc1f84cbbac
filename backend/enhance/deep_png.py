"""PNG of 16 bits, of any program's, which Pillow reads as 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_deep_png(data: bytes) -> NDArray[np.uint16]:
    """A PNG file of 16 bits -> (height, width, 1 to 4) uint16. Raises `RuntimeError` where it is damaged."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    pixels = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    return pixels.permute(1, 2, 0).contiguous().numpy()
