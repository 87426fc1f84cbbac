"""Reads the uncompressed OpenEXR files that Blender writes for us, without making an image datablock."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 20000630
LONG_NAMES = 0x400
MULTIPART = 0x1000
SCANLINE_FILE = 2
PIXEL_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
HEADER_MAX = 1 << 20
"""Bytes; Blender's headers have a few thousand."""


@dataclass(frozen=True)
class _Part:
    channels: tuple[tuple[str, np.dtype[Any]], ...]
    width: int
    height: int


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def unpack(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self) -> str:
        end = self.data.index(b"\0", self.at, self.at + 256)
        value = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return value


def read_exr(path: Path) -> dict[str, NDArray[np.float32]]:
    """All channels of a scanline file by full name ("ViewLayer.Depth.Z"), each (height, width), top row first.

    Raises `ValueError` when the file is not whole, or is of a form that Blender does not write uncompressed.
    """
    data = path.read_bytes()
    try:
        return _read(data)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"the OpenEXR file is damaged: {error}") from error


def _read(data: bytes) -> dict[str, NDArray[np.float32]]:
    reader = _Reader(data)
    magic, version = reader.unpack("<iI")
    if magic != MAGIC or version & 0xFF != SCANLINE_FILE or version & ~(0xFF | LONG_NAMES | MULTIPART):
        raise ValueError("not a scanline OpenEXR file")
    is_multipart = bool(version & MULTIPART)
    parts = [_read_header(reader)]
    while is_multipart and data[reader.at : reader.at + 1] != b"\0":
        parts.append(_read_header(reader))
    reader.at += int(is_multipart)
    channels: dict[str, NDArray[np.float32]] = {}
    starts = [np.array(reader.unpack(f"<{part.height}Q"), np.uint64) for part in parts]
    for number, (part, offsets) in enumerate(zip(parts, starts, strict=True)):
        channels.update(_read_part(data, part, offsets, number if is_multipart else None))
    return channels


def _read_header(reader: _Reader) -> _Part:
    attributes: dict[str, bytes] = {}
    start = reader.at
    while name := reader.text():
        reader.text()
        (size,) = reader.unpack("<i")
        if size < 0 or reader.at + size > len(reader.data) or reader.at - start > HEADER_MAX:
            raise ValueError("the header's attributes do not fit the file")
        attributes[name] = reader.data[reader.at : reader.at + size]
        reader.at += size
    missing = {"channels", "compression", "dataWindow"} - set(attributes)
    if missing:
        raise ValueError(f"the header has no {sorted(missing)[0]}")
    if attributes["compression"] != b"\0":
        raise ValueError("the file is compressed")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    return _Part(_read_channel_list(attributes["channels"]), right - left + 1, bottom - top + 1)


def _read_channel_list(data: bytes) -> tuple[tuple[str, np.dtype[Any]], ...]:
    reader = _Reader(data)
    channels: list[tuple[str, np.dtype[Any]]] = []
    while name := reader.text():
        kind, _linear, step_x, step_y = reader.unpack("<iIii")
        if kind not in PIXEL_TYPES or (step_x, step_y) != (1, 1):
            raise ValueError(f"channel {name} has a pixel type or sampling that is not read here")
        channels.append((name, PIXEL_TYPES[kind]))
    return tuple(channels)


def _read_part(
    data: bytes, part: _Part, offsets: NDArray[np.uint64], number: int | None
) -> dict[str, NDArray[np.float32]]:
    """A row is its part's number (in a file of parts), its y and its size, then channel after channel."""
    if part.width < 1 or part.height < 1:
        raise ValueError("the picture is empty")
    row_type = np.dtype([(name, kind, (part.width,)) for name, kind in part.channels])
    lead = 8 if number is None else 12
    stride = lead + row_type.itemsize
    first = int(offsets.min())
    fits = first + stride * part.height <= len(data)
    if not fits or not np.array_equal(np.sort(offsets), np.arange(first, first + stride * part.height, stride)):
        return _read_scattered(data, part, offsets, row_type, lead)
    block = np.frombuffer(data, np.dtype([("lead", "V", lead), ("row", row_type)]), part.height, first)
    rows = block["row"][np.argsort(np.argsort(offsets))]
    return {name: np.ascontiguousarray(rows[name], np.float32) for name, _kind in part.channels}


def _read_scattered(
    data: bytes, part: _Part, offsets: NDArray[np.uint64], row_type: np.dtype[Any], lead: int
) -> dict[str, NDArray[np.float32]]:
    rows = np.empty(part.height, row_type)
    for index, offset in enumerate(offsets.tolist()):
        if offset + lead + row_type.itemsize > len(data):
            raise ValueError("the file ends too soon")
        rows[index] = np.frombuffer(data, row_type, 1, offset + lead)[0]
    return {name: np.ascontiguousarray(rows[name], np.float32) for name, _kind in part.channels}
