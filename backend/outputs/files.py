"""A finished picture -> a file in the format that its ending names, with all that the picture remembers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..wire import FailureError, FailureKind
from ..wire.disk import write_whole
from .colour import linear_of, to_8_bits, to_float
from .exr import encode_exr
from .metadata import REQUEST, exif_of, texts_of_png
from .png import decode_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENDINGS = (".png", ".webp", ".jpg", ".jpeg", ".exr")
JPEG_QUALITY = 95
JPEG_EXIF_MAX = 65_533
"""Bytes: a segment of a JPEG counts its length in 16 bits."""


def check_ending(path: Path) -> str:
    """The ending of `path` in small letters. Raises `FailureError` (bad_request) for one that is not written."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"A picture cannot be saved as {path.name!r}.",
            "Let its name end in .png, .webp, .jpg or .exr.",
        )
    return ending


def save_picture(png: bytes, path: str | Path) -> Path:
    """Writes a Result's PNG as the format that the ending of `path` names, whole or not at all; returns the path.

    .png: the bytes as they are, 8 or 16 bits a channel as the Request said. .webp: 8 bits, without loss. .jpg, .jpeg:
    8 bits, with loss (quality 95, no chroma subsampling). .exr: float32, linear light (the inverse of sRGB's curve,
    Rec. 709 primaries), as fine as the PNG is: ask for 16 bits. All carry the Request, the digests, the plan and the
    `parameters` text: in PNG's text chunks, in EXIF (MakerNote; UserComment for the text), in EXR's attributes.

    Grey stays grey. Alpha stays, and is gone from a JPEG; in EXR the colours are multiplied by it. A map that was made
    larger is written to EXR as the numbers that it holds, normals as -1..1.

    Raises `FailureError` (bad_request) for another ending and for a prompt too long for a JPEG, `OSError` where the
    file cannot be written.
    """
    target = Path(path)
    ending = check_ending(target)
    write_whole(target, [picture_bytes(png, ending)])
    return target


def picture_bytes(png: bytes, ending: str) -> bytes:
    """A Result's PNG as a file with this ending holds it; see `save_picture`. Raises `FailureError`."""
    if ending.lower() == ".png":
        return png
    pixels, texts = decode_png(png), texts_of_png(png)
    if ending.lower() == ".exr":
        return encode_exr(_exr_channels(to_float(pixels), _data_kind(texts)), texts)
    exif = exif_of(texts)
    if ending.lower() == ".webp":
        # exact: what is transparent counts too, and nothing is.
        return _by_pillow(pixels, "WEBP", exif=exif, lossless=True, exact=True)
    if len(exif) > JPEG_EXIF_MAX:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            "The prompt is too long for what a JPEG can remember.",
            "Save the picture as PNG or WebP, or shorten the prompt.",
        )
    return _by_pillow(pixels, "JPEG", exif=exif, quality=JPEG_QUALITY, subsampling=0)


def _exr_channels(values: NDArray[np.float32], data: str) -> dict[str, NDArray[np.float32]]:
    """(height, width, 1 to 4), 0..1 -> channels by EXR's names. data: of `enhancement.DATA_KINDS`."""
    import numpy as np

    channels = values.shape[2]
    colours = 1 if channels < 3 else 3
    found = values[..., :colours]
    if data == "normal":
        found = found * 2.0 - 1.0
    elif data == "colour":
        found = linear_of(found)
        # EXR's alpha is associated: https://openexr.com/en/latest/TechnicalIntroduction.html#premultiplied
        found = found if channels == colours else found * values[..., colours:]
    named = {name: found[..., index] for index, name in enumerate("Y" if colours == 1 else "RGB")}
    if channels > colours:
        named["A"] = values[..., colours]
    return {name: np.ascontiguousarray(channel, np.float32) for name, channel in named.items()}


def _data_kind(texts: dict[str, str]) -> str:
    """What the picture's numbers stand for."""
    request = json.loads(texts.get(REQUEST, "{}"))
    return (request.get("enhancement") or {}).get("data", "colour")


def _by_pillow(pixels: NDArray[Any], form: Literal["WEBP", "JPEG"], **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    eight = to_8_bits(pixels)
    image = Image.fromarray(eight[..., 0] if eight.shape[2] == 1 else eight)
    if form == "JPEG" and "A" in image.getbands():
        image = image.convert("L" if image.mode == "LA" else "RGB")
    image.save(buffer, form, **options)
    return buffer.getvalue()
