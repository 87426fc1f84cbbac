"""A picture that somebody names -> the array that the task enhance takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..outputs.colour import display_of
from ..outputs.exr import MAGIC, read_exr
from ..outputs.png import bits_of
from ..wire import FailureError, FailureKind
from ..wire.enhancement import PICTURE_PIXELS_MAX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEAD_BYTES = 32
PLAIN = ("L", "LA", "RGB", "RGBA")
"""Pillow's modes whose values are channels of 8 bits."""
EXR_NAMES = ("RGB", "XYZ", "Y", "V", "Z")
NORMAL = "normal"


def read_picture(path: Path, data: str = "colour") -> NDArray[Any]:
    """(height, width, 1 to 4) uint8, uint16 or float32 0..1, row 0 at the top: grey or RGB, with alpha where there is.

    PNG of 8 and 16 bits, JPEG, WebP, TIFF and what else Pillow reads (CMYK and palettes become RGB); of EXR one layer.
    data: of `enhancement.DATA_KINDS`: an EXR's colours are taken as linear light, its normals as -1..1, other numbers
    as they are. Raises `FailureError` (bad_request).
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(MAGIC):
            return _from_exr(path, data)
        if bits_of(head) == 16:
            from ..enhance.deep_png import read_deep_png

            return read_deep_png(path.read_bytes())
        return _by_pillow(path)
    except FileNotFoundError:
        _refuse(f"There is no picture {path}.", "Check its name and its folder.")
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        _refuse(f"The picture {path.name} cannot be read.", "Choose a whole PNG, JPEG, WebP or EXR.", str(error))


def _by_pillow(path: Path) -> NDArray[Any]:
    import numpy as np
    from PIL import Image

    with _large_ones(), Image.open(path) as image:
        if image.width * image.height > PICTURE_PIXELS_MAX:
            _refuse(f"The picture {path.name} has {image.width} x {image.height} pixels.", "Choose a smaller one.")
        if image.mode in ("I;16", "I;16B", "I", "F"):
            return _numbers(np.asarray(image))
        if image.mode not in PLAIN:
            image.load()
            image = image.convert(_mode_for(image))
        pixels = np.asarray(image)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None])


def _mode_for(image: Any) -> str:
    if image.mode in ("1",):
        return "L"
    return "RGBA" if "transparency" in image.info or image.mode in ("PA", "La", "RGBa") else "RGB"


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Grey of 16 bits, or floats."""
    import numpy as np

    whole = values.astype(np.float32).clip(0.0, 1.0) if values.dtype.kind == "f" else values.clip(0, 65535)
    return np.ascontiguousarray(whole if values.dtype.kind == "f" else whole.astype(np.uint16))[..., None]


def _from_exr(path: Path, data: str) -> NDArray[np.float32]:
    import numpy as np

    channels, _texts = read_exr(path)
    for names in EXR_NAMES:
        for first in sorted(name for name in channels if name == names[0] or name.endswith(f".{names[0]}")):
            layer = first.removesuffix(names[0])
            found = [channels[layer + name] for name in names if layer + name in channels]
            if len(found) == len(names):
                return _as_shown(np.stack(found, axis=2), channels.get(f"{layer}A"), data)
    raise ValueError(f"its channels are {', '.join(sorted(channels)[:8])}")


def _as_shown(values: NDArray[np.float32], alpha: NDArray[np.float32] | None, data: str) -> NDArray[np.float32]:
    """An EXR's numbers as values of 0..1, with straight alpha."""
    import numpy as np

    if data == NORMAL:
        values = values * 0.5 + 0.5
    elif data == "colour":
        if alpha is not None:
            values = np.where(alpha[..., None] > 0.0, values / np.maximum(alpha[..., None], 1e-6), 0.0)
        values = display_of(values)
    if alpha is not None:
        values = np.concatenate([values, alpha[..., None]], axis=2)
    return np.ascontiguousarray(np.nan_to_num(values, posinf=1.0, neginf=0.0).clip(0.0, 1.0), np.float32)


@contextmanager
def _large_ones() -> Iterator[None]:
    """Pillow takes a picture of 20,000 x 20,000 for an attack; how large it may be is decided here."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _refuse(message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
