"""Reads GGUF v2 and v3 files without trusting them: memory-mapped, every number checked against the file's size."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..wire import FailureError, FailureKind
from .weight_file import PackedTensor, TensorType, WeightFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DIMENSIONS_MAX = 4
TENSORS_MAX = 100_000
NAME_BYTES_MAX = 1024
STRING_BYTES_MAX = 1 << 24
ARRAY_ITEMS_MAX = 10_000_000
"""More items than any tokenizer has words; a larger count is damage."""
ARRAY_DEPTH_MAX = 4


TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    20: TensorType("IQ4_NL", 32, 18),
    23: TensorType("IQ4_XS", 256, 136),
    30: TensorType("BF16", 1, 2),
}
"""The types this version reads, by the number that stands for them in a file."""

OTHER_TYPE_NAMES = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8",
    25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
"""Types that exist and that this version does not read, for the sentence that says so."""

SCALAR_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def read_gguf(path: Path) -> WeightFile:
    """Maps a GGUF file and reads its tables; no weight is read or copied.

    Raises `FailureError`: model_missing, model_broken (not GGUF, truncated, damaged) or model_unsupported
    (another version or number format).
    """
    import numpy as np

    if not path.is_file():
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"The model file {path.name} is not there.",
            "Download the model again, or choose another one.",
            str(path),
        )
    if path.stat().st_size < 24:
        _broken(path, "is too short to be a GGUF file")
    # Copy-on-write, because torch refuses read-only memory without a warning; nothing here writes.
    mapped = np.memmap(path, dtype=np.uint8, mode="c")
    return _Reader(path, mapped).read()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row of the tensor table, before its bytes are looked up."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    size: int


class _Reader:
    """A cursor over the mapped bytes that never moves past their end."""

    def __init__(self, path: Path, mapped: NDArray[np.uint8]) -> None:
        self.path = path
        self.mapped = mapped
        self.view = memoryview(mapped)
        self.size = len(self.view)
        self.at = 0

    def read(self) -> WeightFile:
        if bytes(self.view[:4]) != MAGIC:
            _broken(self.path, "is not a GGUF file")
        self.at = 4
        version = self.number("I")
        if version not in VERSIONS:
            _unsupported(self.path, f"is GGUF version {version}, in a form that this version cannot read")
        tensor_count, key_count = self.number("Q"), self.number("Q")
        if tensor_count > TENSORS_MAX or key_count > self.left() // 13:
            _broken(self.path, "says it holds more than fits in it")
        metadata = self.metadata(key_count)
        entries = self.tensor_table(tensor_count)
        alignment = metadata.get("general.alignment", 32)
        if isinstance(alignment, bool) or not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
            _broken(self.path, f"has an impossible alignment of {alignment!r} bytes")
        data_start = -(-self.at // alignment) * alignment
        self.check_extents(entries, data_start, alignment)
        return WeightFile(self.path, metadata, {entry.name: self.tensor(entry, data_start) for entry in entries})

    def left(self) -> int:
        return self.size - self.at

    def skip(self, count: int) -> int:
        """Moves on by `count` bytes and returns where they began."""
        if count > self.left():
            _broken(self.path, "ends in the middle of its tables")
        start = self.at
        self.at += count
        return start

    def number(self, code: str) -> int:
        return self.scalar(code)  # type: ignore[return-value]

    def scalar(self, code: str) -> int | float | bool:
        return struct.unpack_from(f"<{code}", self.view, self.skip(struct.calcsize(f"<{code}")))[0]

    def text(self, limit: int) -> str:
        length = self.number("Q")
        if length > limit:
            _broken(self.path, f"holds a text of {length:,} bytes where a short one belongs")
        start = self.skip(length)
        try:
            return bytes(self.view[start : start + length]).decode()
        except UnicodeDecodeError:
            _broken(self.path, "holds a name that is not text")

    def metadata(self, count: int) -> dict[str, str | int | float | bool]:
        found: dict[str, str | int | float | bool] = {}
        for _ in range(count):
            key = self.text(NAME_BYTES_MAX)
            kind = self.number("I")
            if key in found:
                _broken(self.path, f"has the key {key!r} twice")
            if kind in SCALAR_FORMATS:
                found[key] = self.scalar(SCALAR_FORMATS[kind])
            elif kind == STRING:
                found[key] = self.text(STRING_BYTES_MAX)
            elif kind == ARRAY:
                self.pass_over_array(ARRAY_DEPTH_MAX)
            else:
                _broken(self.path, f"has the key {key!r} of an unknown kind {kind}")
        return found

    def pass_over_array(self, depth: int) -> None:
        kind, count = self.number("I"), self.number("Q")
        if count > ARRAY_ITEMS_MAX or depth == 0:
            _broken(self.path, f"holds a list of {count:,} items where none belongs")
        if kind in SCALAR_FORMATS:
            self.skip(count * struct.calcsize(SCALAR_FORMATS[kind]))
        elif kind == STRING:
            for _ in range(count):
                self.skip(self.number("Q"))
        elif kind == ARRAY:
            for _ in range(count):
                self.pass_over_array(depth - 1)
        else:
            _broken(self.path, f"holds a list of an unknown kind {kind}")

    def tensor_table(self, count: int) -> list[_Entry]:
        if count > self.left() // 32:
            _broken(self.path, "says it holds more tensors than fit in it")
        entries = [self.table_row() for _ in range(count)]
        names = {entry.name for entry in entries}
        if len(names) != len(entries):
            _broken(self.path, "holds two tensors of one name")
        return entries

    def table_row(self) -> _Entry:
        name = self.text(NAME_BYTES_MAX)
        dimensions = self.number("I")
        if not 1 <= dimensions <= DIMENSIONS_MAX:
            _broken(self.path, f"holds the tensor {name!r} with {dimensions} axes")
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
        type_number, offset = self.number("I"), self.number("Q")
        tensor_type = TENSOR_TYPES.get(type_number)
        if tensor_type is None:
            known = OTHER_TYPE_NAMES.get(type_number)
            if known is None:
                _broken(self.path, f"holds the tensor {name!r} of an unknown number format {type_number}")
            _unsupported(self.path, f"uses the number format {known}, which this version cannot read")
        if min(shape) < 1 or shape[-1] % tensor_type.block_size or math.prod(shape) > self.size * 4:
            _broken(self.path, f"holds the tensor {name!r} with the impossible shape {shape}")
        size = math.prod(shape) // tensor_type.block_size * tensor_type.block_bytes
        return _Entry(name, shape, tensor_type, offset, size)

    def check_extents(self, entries: list[_Entry], data_start: int, alignment: int) -> None:
        end = 0
        for entry in sorted(entries, key=lambda entry: entry.offset):
            if entry.offset % alignment or entry.offset < end:
                _broken(self.path, f"holds the tensor {entry.name!r} at an impossible place")
            end = entry.offset + entry.size
            if data_start + end > self.size:
                _broken(self.path, f"is cut off: {data_start + end - self.size:,} bytes or more are missing")

    def tensor(self, entry: _Entry, data_start: int) -> PackedTensor:
        start = data_start + entry.offset
        rows = math.prod(entry.shape[:-1])
        packed = self.mapped[start : start + entry.size].reshape(rows, entry.size // rows)
        return PackedTensor(entry.name, entry.shape, entry.type, packed)


def _broken(path: Path, what: str) -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_BROKEN,
        f"The model file {path.name} {what}.",
        "Download it again; the file is damaged or not what its name says.",
        str(path),
    )


def _unsupported(path: Path, what: str) -> NoReturn:
    raise FailureError.of(
        FailureKind.MODEL_UNSUPPORTED,
        f"The model file {path.name} {what}.",
        f"Choose a FLUX.1 file in one of {', '.join(sorted(kind.name for kind in TENSOR_TYPES.values()))}.",
        str(path),
    )
