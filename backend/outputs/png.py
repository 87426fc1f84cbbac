"""PNG with 8 or 16 bits a channel. Pillow writes the former; it has no colour picture of 16 bits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 4
"""zlib's level: at 6 a noisy picture takes twice as long for two per cent less."""
RGB = 2
FROM_ABOVE = 2
"""PNG's filter "Up": each row as its difference from the one above, which numpy undoes in one sum."""


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], texts: dict[str, str]) -> bytes:
    """(height, width, 3) uint8 or uint16 -> a PNG file of as many bits, with the texts as UTF-8 chunks (iTXt)."""
    if pixels.dtype == "uint16":
        return _encode16(pixels, texts)
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info, compress_level=LEVEL)
    return buffer.getvalue()


def decode_png(png: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(height, width, 3) of a PNG file that `encode_png` wrote: uint16 for 16 bits, else uint8.

    Raises `ValueError` where it is not whole, or has 16 bits and was written by another program.
    """
    import numpy as np
    from PIL import Image

    if bits_of(png) == 16:
        return _decode16(png)
    try:
        return np.array(Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the PNG is damaged: {error}") from error


def bits_of(png: bytes) -> int:
    """Bits a channel, as the head of a PNG file says."""
    return png[24] if png.startswith(SIGNATURE) and len(png) > 24 else 0


def _encode16(pixels: NDArray[Any], texts: dict[str, str]) -> bytes:
    import numpy as np

    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(height, width * 6)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = FROM_ABOVE
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    head = struct.pack(">IIBBBBB", width, height, 16, RGB, 0, 0, 0)
    chunks = [_chunk(b"IHDR", head)]
    for keyword, text in texts.items():
        chunks.append(_chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()))
    chunks += [_chunk(b"IDAT", zlib.compress(filtered, LEVEL)), _chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


def _decode16(png: bytes) -> NDArray[np.uint16]:
    import numpy as np

    width, height, _bits, colours, *_rest = struct.unpack_from(">IIBBBBB", png, 16)
    try:
        raw = zlib.decompress(b"".join(data for kind, data in _chunks(png) if kind == b"IDAT"))
    except (zlib.error, struct.error) as error:
        raise ValueError(f"the PNG is damaged: {error}") from error
    if colours != RGB or len(raw) != height * (1 + width * 6):
        raise ValueError("the PNG of 16 bits is not one of ours")
    filtered = np.frombuffer(raw, np.uint8).reshape(height, -1)
    if not (filtered[:, 0] == FROM_ABOVE).all():
        raise ValueError("the PNG of 16 bits is not one of ours")
    rows = np.cumsum(filtered[:, 1:], axis=0, dtype=np.uint8)
    return rows.view(">u2").reshape(height, width, 3).astype(np.uint16)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        yield kind, png[at + 8 : at + 8 + size]
        at += 12 + size
