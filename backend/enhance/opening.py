"""Picture files -> pixels that can be enlarged, whatever they hold; what is damaged or far too large is refused."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..wire import FailureError, FailureKind
from .upscale import AREA_MAX, FACTOR_MIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "TGA", "GIF")
PIXELS_MAX = int(AREA_MAX / FACTOR_MIN**2)
"""More than this cannot be enlarged at all."""
BYTES_MAX = 2_000_000_000
DEEP_PNG = ((16, 2), (16, 6))
"""What the head of a PNG file says of its bits and its colours: RGB and RGBA of 16 bits."""
PLAIN = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}
"""Pillow's modes -> the mode that they are read as; all others become RGB, or RGBA where something is transparent."""


def open_picture(path: Path, *, is_data: bool = False, pixels_max: int = PIXELS_MAX) -> NDArray[Any]:
    """A file -> (h, w) or (h, w, 2, 3 or 4), row 0 at the top, upright: uint8, uint16 or float32 as the file is.

    Colours with a profile (CMYK for print, a wide gamut) become sRGB's. is_data: the values are no colours, as in a
    normal map, and are left as they are. pixels_max: of larger pictures nothing is read.

    Raises `FailureError` (bad_request): not there, not a picture, damaged, or larger than can be enlarged.
    """
    try:
        if path.stat().st_size > BYTES_MAX:
            _bad(f"The file {path.name} is too large.", "Use a picture of up to 2 GB.")
        data = path.read_bytes()
    except OSError as error:
        _bad(f"The picture {path.name} cannot be read.", "Check its name and its folder.", str(error))
    return read_picture(data, path.name, is_data=is_data, pixels_max=pixels_max)


def read_picture(data: bytes, name: str, *, is_data: bool = False, pixels_max: int = PIXELS_MAX) -> NDArray[Any]:
    """The same of a file's bytes. name: how the picture is called in sentences."""
    try:
        with _no_limit_of_pillows(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > pixels_max:
                _too_large(name, f"{image.width} x {image.height}", pixels_max)
            return _deep(data) if _is_deep(data) else _pixels(image, is_data)
    except UnidentifiedImageError as error:
        _bad(f"The file {name} is not a picture.", f"Use one of {', '.join(FORMATS)}.", str(error))
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, RuntimeError) as error:
        # What Pillow's readers say of a file that ends too soon or contradicts itself.
        _bad(
            f"The picture {name} is damaged.", "Save it again, or use another one.", f"{type(error).__name__}: {error}"
        )


@contextmanager
def _no_limit_of_pillows() -> Iterator[None]:
    """Pillow takes a picture of 20,000 x 20,000 for an attack; how large it may be is decided here."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _pixels(image: Image.Image, is_data: bool) -> NDArray[Any]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return np.asarray(upright, dtype=np.uint16)
    if upright.mode == "I":
        return np.clip(np.asarray(upright), 0, 65535).astype(np.uint16)
    if upright.mode == "F":
        return np.asarray(upright, dtype=np.float32)
    if not is_data:
        upright = _in_srgb(upright)
    mode = PLAIN.get(upright.mode) or ("RGBA" if upright.has_transparency_data else "RGB")
    if mode in ("L", "RGB") and upright.has_transparency_data:
        mode = "LA" if mode == "L" else "RGBA"
    return np.asarray(upright.convert(mode))


def _in_srgb(image: Image.Image) -> Image.Image:
    """By the profile that the file carries, where it carries one that fits; else as it is."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK"):
        return image
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        found = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return found or image


def _is_deep(data: bytes) -> bool:
    """Whether a file is a colour PNG of 16 bits, of which Pillow would keep 8."""
    return data.startswith(b"\x89PNG\r\n\x1a\n") and tuple(data[24:26]) in DEEP_PNG


def _deep(data: bytes) -> NDArray[np.uint16]:
    from torchvision.io import ImageReadMode, decode_png

    with warnings.catch_warnings():
        # Its successor, torchcodec, needs the user to have FFmpeg.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    return found.permute(1, 2, 0).contiguous().numpy().astype(np.uint16)


def _too_large(name: str, detail: str, pixels_max: int) -> NoReturn:
    _bad(
        f"The picture {name} is too large to be enlarged.",
        f"Use one of {pixels_max // 1_000_000} million pixels at most.",
        detail,
    )


def _bad(message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
