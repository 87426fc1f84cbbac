"""PNG with 8 or 16 bits a channel, 1 to 4 channels. Pillow writes the former; it has no colour picture of 16 bits."""

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
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's number for so many channels: grey, grey with alpha, RGB, RGB with alpha."""
MODES = ("L", "LA", "RGB", "RGBA")
FROM_ABOVE = 2
"""PNG's filter "Up": each row as its difference from the one above, which numpy undoes in one sum."""


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], texts: dict[str, str]) -> bytes:
    """(height, width, 1 to 4) uint8 or uint16 -> a PNG file of as many bits, with the texts as UTF-8 chunks (iTXt).

    Two and four channels are one and three with alpha.
    """
    if pixels.dtype == "uint16":
        return _encode16(pixels, texts)
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    buffer = io.BytesIO()
    # Pillow has no axis of one channel.
    plain = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(plain).save(buffer, "PNG", pnginfo=info, compress_level=LEVEL)
    return buffer.getvalue()


def decode_png(png: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(height, width, 1 to 4) of a PNG file that `encode_png` wrote: uint16 for 16 bits, else uint8.

    Raises `ValueError` where it is not whole, or has 16 bits and was written by another program.
    """
    import numpy as np
    from PIL import Image

    if bits_of(png) == 16:
        return _decode16(png)
    try:
        image = Image.open(io.BytesIO(png), formats=["PNG"])
        pixels = np.array(image if image.mode in MODES else image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the PNG is damaged: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def bits_of(png: bytes) -> int:
    """Bits a channel, as the head of a PNG file says."""
    return png[24] if png.startswith(SIGNATURE) and len(png) > 24 else 0


def _encode16(pixels: NDArray[Any], texts: dict[str, str]) -> bytes:
    import numpy as np

    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(height, width * 2 * channels)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = FROM_ABOVE
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
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
    channels = {number: count for count, number in COLOUR_TYPES.items()}.get(colours, 0)
    if not channels or len(raw) != height * (1 + width * 2 * channels):
        raise ValueError("the PNG of 16 bits is not one of ours")
    filtered = np.frombuffer(raw, np.uint8).reshape(height, -1)
    if not (filtered[:, 0] == FROM_ABOVE).all():
        raise ValueError("the PNG of 16 bits is not one of ours")
    rows = np.cumsum(filtered[:, 1:], axis=0, dtype=np.uint8)
    return rows.view(">u2").reshape(height, width, channels).astype(np.uint16)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        yield kind, png[at + 8 : at + 8 + size]
        at += 12 + size
