"""A picture that somebody names -> the array that the task enhance takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..outputs.colour import display_of
from ..outputs.exr import MAGIC, read_exr
from ..wire import FailureError, FailureKind
from ..wire.enhancement import PICTURE_PIXELS_MAX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXR_NAMES = ("RGB", "XYZ", "Y", "V", "Z")
NORMAL = "normal"


def read_picture(path: Path, data: str = "colour") -> NDArray[Any]:
    """(height, width, 1 to 4) uint8, uint16 or float32 0..1, row 0 at the top: grey or RGB, with alpha where there is.

    EXR, of which one layer is read, and what `enhance.opening` reads. data: of `enhancement.DATA_KINDS`: an EXR's
    colours are taken as linear light, its normals as -1..1, other numbers as they are. Raises `FailureError`
    (bad_request).
    """
    import numpy as np

    try:
        with path.open("rb") as file:
            is_exr = file.read(len(MAGIC)) == MAGIC
        if is_exr:
            return _from_exr(path, data)
    except FileNotFoundError:
        _refuse(f"There is no picture {path}.", "Check its name and its folder.")
    except (OSError, ValueError, RuntimeError) as error:
        _refuse(f"The picture {path.name} cannot be read.", "Choose a whole PNG, JPEG, WebP or EXR.", str(error))
    from ..enhance.opening import open_picture

    pixels = open_picture(path, is_data=data != "colour", pixels_max=PICTURE_PIXELS_MAX)
    within = pixels.clip(0.0, 1.0) if pixels.dtype.kind == "f" else pixels
    return np.ascontiguousarray(within if within.ndim == 3 else within[..., None])


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


def _refuse(message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
