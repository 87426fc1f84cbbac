"""Files that other programs wrote -> the arrays of `ControlMaps`. Row 0 is the top."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..wire import FailureError, FailureKind
from .colour import display_of
from .exr import MAGIC, read_exr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

DEPTH_ENDINGS = ("Depth.Z", "Depth.V", "Z", "V", "Depth", "R", "Y")
"""A channel of depths, the surest first; with a layer's name in front of it, or alone."""
NORMAL_ENDINGS = (("Normal.X", "Normal.Y", "Normal.Z"), ("X", "Y", "Z"), ("R", "G", "B"))
COLOUR_ENDINGS = (("Combined.R", "Combined.G", "Combined.B"), ("R", "G", "B"))
GREY_ENDINGS = ("V", "Y", "R")
SKY = 1e9
"""Scene units: Blender writes 1e10 where there is nothing."""
FLAT = 0.1
"""A normal shorter than this is none: the sky's, which pictures of 8 bits cannot hold as exactly 0."""


def read_depth(path: Path) -> FloatArray:
    """An EXR's planar depths in scene units, (height, width); what is 1e9 or more away is sky, inf.

    Blender's Z pass ("ViewLayer.Depth.Z") is such. Raises `FailureError` (bad_request), as all here do.
    """
    import numpy as np

    channels = _exr_channels(path)
    if channels is None:
        _refuse(f"The depth map {path.name} is no OpenEXR file.", "Give the Z pass as EXR: it holds scene units.")
    depth = _channel(channels, DEPTH_ENDINGS, path, "depth")
    return np.where(depth >= SKY, np.float32(np.inf), depth)


def read_normal(path: Path) -> FloatArray:
    """Normals in camera space, (height, width, 3), -1..1: of an EXR as they are, of a picture as 0.5 + 0.5 n.

    Blender's own Normal pass is in world space: turn it first.
    """
    import numpy as np

    channels = _exr_channels(path)
    if channels is not None:
        return _channels(channels, NORMAL_ENDINGS, path, "normals")
    normal = _picture_values(path, "RGB") * 2.0 - 1.0
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    return np.where(length < FLAT, 0.0, normal / np.maximum(length, FLAT)).astype(np.float32)


def read_grey(path: Path) -> FloatArray:
    """(height, width), 0..1: lines that are white on black, or a mask that is white where a picture may change."""
    import numpy as np

    channels = _exr_channels(path)
    values = _picture_values(path, "L") if channels is None else _channel(channels, GREY_ENDINGS, path, "grey values")
    return np.clip(values, 0.0, 1.0)


def read_colours(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) display values of a picture; those of an EXR are taken as linear light."""
    import numpy as np

    channels = _exr_channels(path)
    if channels is None:
        values = _picture_values(path, "RGB")
    else:
        values = display_of(_channels(channels, COLOUR_ENDINGS, path, "colours"))
    return (np.clip(values, 0.0, 1.0) * 255.0).round().astype(np.uint8)


def _exr_channels(path: Path) -> dict[str, FloatArray] | None:
    """None where the file is no EXR."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
        return read_exr(path)[0]
    except ValueError as error:
        _refuse(f"The OpenEXR file {path.name} cannot be read: {error}.", "Write it again.")
    except OSError as error:
        _refuse(f"The file {path.name} cannot be opened.", "Check its name and its folder.", str(error))


def _channel(channels: dict[str, FloatArray], endings: Iterable[str], path: Path, what: str) -> FloatArray:
    for ending in endings:
        named = [name for name in sorted(channels) if name == ending or name.endswith(f".{ending}")]
        # What has an X beside it is a vector.
        named = [name for name in named if f"{name[:-1]}X" not in channels]
        if named:
            return channels[named[0]]
    there = ", ".join(sorted(channels)[:8])
    _refuse(f"The file {path.name} holds no {what}: its channels are {there}.", "Write the pass with its usual names.")


def _channels(
    channels: dict[str, FloatArray], endings: Iterable[tuple[str, str, str]], path: Path, what: str
) -> FloatArray:
    import numpy as np

    for triple in endings:
        for name in sorted(channels):
            if name != triple[0] and not name.endswith(f".{triple[0]}"):
                continue
            layer = name.removesuffix(triple[0])
            found = [channels[layer + one] for one in triple if layer + one in channels]
            if len(found) == 3:
                return np.stack(found, axis=2)
    there = ", ".join(sorted(channels)[:8])
    _refuse(f"The file {path.name} holds no {what}: its channels are {there}.", "Write the pass with its usual names.")


def _picture_values(path: Path, mode: str) -> NDArray[np.float32]:
    """0..1, (height, width) for mode "L", (height, width, 3) for "RGB"."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                values: NDArray[Any] = np.asarray(image, np.float32) / 65535.0
                return values if mode == "L" else np.repeat(values[..., None], 3, axis=2)
            return np.asarray(image.convert(mode), np.float32) / 255.0
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        _refuse(f"The picture {path.name} cannot be read.", "Choose a whole PNG, JPEG, WebP or EXR.", str(error))


def _refuse(message: str, hint: str, detail: str = "") -> NoReturn:
    raise FailureError.of(FailureKind.BAD_REQUEST, message, hint, detail)
