"""What a network that enhances pictures takes on a device, by its file: its weights, and what it computes beside them.

A tile was counted: the numbers of all tensors that live at once in spandrel's networks, for each pixel that goes in
(`tests/backend/test_plan_networks.py` counts again). What a file holds is known once it is loaded; before that its name
and its size tell the architecture, and where they tell none it is taken for Real-ESRGAN's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

COMPACT_BYTES = 10_000_000
"""A smaller file holds one of Real-ESRGAN's compact networks."""
COMPACT, RRDB = 135, 2_100
BY_NAME = ((r"(?i)hat(?![a-z])", 10_300), (r"(?i)dat(?![a-z])", 4_000), (r"(?i)swin", 3_500))
"""Of (pixels): what lives at once."""
TILES = {"cpu": 384, "cuda": 640}
"""Pixels on a side of a tile, as `enhance.upscale` has them."""
FACE_BYTES = 730_000_000
"""What RestoreFormer takes for a face in float32, and more than GFPGAN does."""


@dataclass(frozen=True, slots=True)
class NetworkNeeds:
    """Bytes on the device. weights: as in the file. beside: what is computed at once, by the tiles that it begins with;
    where that is too much, tiles become smaller.
    """

    weights: int = 0
    beside: int = 0

    @property
    def both(self) -> int:
        return self.weights + self.beside


def upscaler_needs(name: str, file_bytes: int, kind: str) -> NetworkNeeds:
    """name: of the file, without its ending. kind: as `Machine` has it."""
    usual = COMPACT if file_bytes < COMPACT_BYTES else RRDB
    numbers = next((numbers for pattern, numbers in BY_NAME if re.search(pattern, name)), usual)
    side, size = TILES.get(kind, TILES["cpu"]), 2 if kind == "cuda" else 4
    return NetworkNeeds(file_bytes, numbers * side * side * size)


def face_needs(file_bytes: int) -> NetworkNeeds:
    return NetworkNeeds(file_bytes, FACE_BYTES)


def most_needs(found: Iterable[NetworkNeeds]) -> NetworkNeeds:
    """Of several, which are there in turn."""
    return max(found, key=lambda one: one.both, default=NetworkNeeds())
