"""OpenEXR of scanlines: written with float channels and ZIP, read as Blender and most tools write it.

The file layout is that of https://openexr.com/en/latest/OpenEXRFileLayout.html. Nothing that we require reads it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC = b"\x76\x2f\x31\x01"
LONG_NAMES, DEEP, TILED, MULTIPART = 0x400, 0x800, 0x200, 0x1000
COMPRESSIONS = ("NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
ROWS = {"NONE": 1, "ZIPS": 1, "ZIP": 16}
"""Rows in a block, of the compressions that are read."""
PIXEL_TYPES = {0: "<u4", 1: "<f2", 2: "<f4"}
FLOAT = 2
SIDE_MAX = 1 << 16
NAME_MAX = 255


@dataclass
class _Part:
    """One picture in a file: its head, and its channels as they are filled block by block."""

    attributes: dict[str, tuple[str, bytes]]
    compression: str
    window: tuple[int, int, int, int]
    types: list[tuple[str, str]]
    channels: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return self.window[2] - self.window[0] + 1

    @property
    def height(self) -> int:
        return self.window[3] - self.window[1] + 1

    @property
    def blocks(self) -> int:
        return -(-self.height // ROWS[self.compression])


def encode_exr(channels: dict[str, NDArray[np.float32]], texts: dict[str, str]) -> bytes:
    """Channels of one size, (height, width) float32 with row 0 at the top, and texts as string attributes.

    Values are written as they are: EXR holds linear light and no transfer curve. Compressed without loss.
    """
    import numpy as np

    names = sorted(channels)
    height, width = channels[names[0]].shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channel_list = b"".join(name.encode() + b"\0" + struct.pack("<iIii", FLOAT, 0, 1, 1) for name in names) + b"\0"
    head = MAGIC + struct.pack("<I", 2 | LONG_NAMES)
    for name, kind, value in (
        ("channels", "chlist", channel_list),
        ("compression", "compression", bytes([COMPRESSIONS.index("ZIP")])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
        *((name, "string", text.encode()) for name, text in texts.items()),
    ):
        head += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
    head += b"\0"
    rows = np.stack([np.ascontiguousarray(channels[name], "<f4") for name in names], axis=1)
    blocks = [_packed(rows[top : top + ROWS["ZIP"]].tobytes(), top) for top in range(0, height, ROWS["ZIP"])]
    starts = np.cumsum([len(head) + 8 * len(blocks), *map(len, blocks[:-1])], dtype="<u8")
    return head + starts.tobytes() + b"".join(blocks)


def read_exr(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """All channels by full name ("ViewLayer.Depth.Z"), each (height, width) float32, top row first; and the texts.

    Raises `ValueError`, with what is wrong in a few words, where the file is not whole or of a form that is not read.
    """
    try:
        return _read(path.read_bytes())
    except (struct.error, IndexError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError("it ends too soon, or is damaged") from error


def _read(data: bytes) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    import numpy as np

    if data[:4] != MAGIC:
        raise ValueError("it is not an OpenEXR file")
    (version,) = struct.unpack_from("<I", data, 4)
    if version & 0xFF != 2 or version & (TILED | DEEP):
        raise ValueError("it is tiled, deep or of another version: only scanlines are read")
    parts, at = _read_heads(data, bool(version & MULTIPART))
    tables = []
    for part in parts:
        tables.append(struct.unpack_from(f"<{part.blocks}Q", data, at))
        at += 8 * part.blocks
        part.channels = {name: np.zeros((part.height, part.width), np.float32) for name, _type in part.types}
    lead = 4 if version & MULTIPART else 0
    for part, starts in zip(parts, tables, strict=True):
        for start in starts:
            _read_block(data, start + lead, part)
    channels = {name: channel for part in parts for name, channel in part.channels.items()}
    texts = {
        name: value.decode()
        for part in parts
        for name, (kind, value) in part.attributes.items()
        if kind == "string" and name not in ("name", "type", "view")
    }
    return channels, texts


def _read_heads(data: bytes, is_multipart: bool) -> tuple[list[_Part], int]:
    parts, at = [], 8
    while True:
        attributes: dict[str, tuple[str, bytes]] = {}
        while data[at] != 0:
            name, at = _text(data, at)
            kind, at = _text(data, at)
            (size,) = struct.unpack_from("<i", data, at)
            if size < 0 or at + 4 + size > len(data):
                raise ValueError("it ends too soon, or is damaged")
            attributes[name] = kind, data[at + 4 : at + 4 + size]
            at += 4 + size
        at += 1
        parts.append(_part_of(attributes))
        if not is_multipart:
            return parts, at
        if data[at] == 0:
            return parts, at + 1


def _part_of(attributes: dict[str, tuple[str, bytes]]) -> _Part:
    for name in ("channels", "compression", "dataWindow"):
        if name not in attributes:
            raise ValueError(f"its head has no {name}")
    number = attributes["compression"][1][0]
    compression = COMPRESSIONS[number] if number < len(COMPRESSIONS) else str(number)
    if compression not in ROWS:
        raise ValueError(f"it is compressed as {compression}: save it with ZIP, or without compression")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"][1])
    part = _Part(attributes, compression, (left, top, right, bottom), list(_types(attributes["channels"][1])))
    if not (1 <= part.width <= SIDE_MAX and 1 <= part.height <= SIDE_MAX):
        raise ValueError("it holds no pixels, or far too many")
    return part


def _types(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while data[at] != 0:
        name, at = _text(data, at)
        kind, _linear, step_x, step_y = struct.unpack_from("<iIii", data, at)
        at += 16
        if kind not in PIXEL_TYPES or (step_x, step_y) != (1, 1):
            raise ValueError(f"its channel {name} is of a kind or a density that is not read")
        yield name, PIXEL_TYPES[kind]


def _read_block(data: bytes, at: int, part: _Part) -> None:
    import numpy as np

    y, size = struct.unpack_from("<ii", data, at)
    top = y - part.window[1]
    rows = min(ROWS[part.compression], part.height - top)
    row_type: np.dtype[Any] = np.dtype([(name, kind, (part.width,)) for name, kind in part.types])
    block = data[at + 8 : at + 8 + size]
    if size < 0 or len(block) != size or top < 0 or rows < 1:
        raise ValueError("it ends too soon, or is damaged")
    if part.compression != "NONE" and size < rows * row_type.itemsize:
        block = _unpacked(block, rows * row_type.itemsize)
    if len(block) != rows * row_type.itemsize:
        raise ValueError("it ends too soon, or is damaged")
    found = np.frombuffer(block, row_type)
    for name, _kind in part.types:
        part.channels[name][top : top + rows] = found[name]


def _packed(raw: bytes, y: int) -> bytes:
    """A block: bytes in even places before those in odd places, as differences, through zlib where that is less."""
    import numpy as np

    values = np.frombuffer(raw, np.uint8)
    mixed = np.concatenate((values[0::2], values[1::2]))
    mixed[1:] -= mixed[:-1] + np.uint8(128)
    packed = zlib.compress(mixed, 4)
    return struct.pack("<ii", y, min(len(packed), len(raw))) + (packed if len(packed) < len(raw) else raw)


def _unpacked(packed: bytes, size: int) -> bytes:
    import numpy as np

    reader = zlib.decompressobj()
    differences = np.frombuffer(reader.decompress(packed, size), np.uint8).copy()
    if len(differences) != size:
        raise ValueError("it ends too soon, or is damaged")
    differences[1:] -= np.uint8(128)
    mixed = np.cumsum(differences, dtype=np.uint8)
    values = np.empty(size, np.uint8)
    half = (size + 1) // 2
    values[0::2], values[1::2] = mixed[:half], mixed[half:]
    return values.tobytes()


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(0, at, at + NAME_MAX + 1)
    if end < 0:
        raise ValueError("it ends too soon, or is damaged")
    return data[at:end].decode(), end + 1
