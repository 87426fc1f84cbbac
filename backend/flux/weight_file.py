"""A file of weights, whatever its form: tensors by name, their bytes as they lie on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorType:
    """How a tensor's numbers are packed: `block_size` weights in `block_bytes` bytes, along a row."""

    name: str
    block_size: int
    block_bytes: int


@dataclass(frozen=True, eq=False, slots=True)
class PackedTensor:
    """One tensor of a file. `shape` is in the order of torch, the fastest axis last.

    packed: (rows, bytes per row) uint8, a view of the mapped file; rows are all axes but the last.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    packed: NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class WeightFile:
    """metadata: the file's keys with a scalar or text value (arrays are passed over). tensors: by name."""

    path: Path
    metadata: dict[str, str | int | float | bool]
    tensors: dict[str, PackedTensor]
