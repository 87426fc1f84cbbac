"""ControlMaps -> the pictures that ControlNets were trained on. numpy only; each net's way is data.

A recipe is a table. Depth: "far" (grey of the farthest geometry where sky is seen, 0..1) and "percentiles" (of the
inverse depth, which become black and white). Normal: "channels" (which axis is red, green, blue, with a sign; x right,
y up, z towards the camera) and "sky" (its colour). Line: "white_on_black". Pose: "radius" (of a joint's disc, half of a
limb's width, as a share of the picture's shorter side) and "limb_light" (how light a limb is beside a joint, 0..1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..wire import ControlMaps, FailureError, FailureKind
from .pose_picture import pose_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Picture = NDArray[np.uint8]

RECIPES: dict[str, dict[str, Any]] = {
    # Nets trained on the output of depth estimators (Depth Anything, MiDaS, ZoeDepth): Union-Pro, Shakker, jasper.
    "depth_near_white": {"percentiles": [1.0, 99.0], "far": 0.08},
    # Camera-space normals, x right in red, y up in green, z towards the viewer in blue: jasper's Surface-Normals.
    "normal_y_up": {"channels": ["+x", "+y", "+z"], "sky": [0, 0, 0]},
    # The same with green pointing down, as estimators in the camera convention of computer vision write it.
    "normal_y_down": {"channels": ["+x", "-y", "+z"], "sky": [0, 0, 0]},
    # Canny, soft edge and line art nets.
    "line_white_on_black": {"white_on_black": True},
    # Drawings: dark strokes on paper.
    "line_black_on_white": {"white_on_black": False},
    # Body without hands and face, as OpenPose's and DWPose's preprocessors draw it on a side of 512 pixels.
    "pose_openpose": {"radius": 4 / 512, "limb_light": 0.6},
}
AXES = {"x": 0, "y": 1, "z": 2}


def control_picture(
    maps: ControlMaps, kind: str, recipe: str | dict[str, Any], size: tuple[int, int] | None = None
) -> Picture:
    """(height, width, 3) uint8: the map `kind` as the net wants to see it.

    recipe: a name in RECIPES or such a table. size: width and height in pixels, for a map without a size of its own
    (pose). Raises `FailureError`: bad_request when the map is not there,
    model_broken when the recipe is not one.
    """
    array = maps.arrays().get(kind)
    if array is None:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The {kind} control has no {kind} map.",
            "Capture the view again with this control switched on.",
        )
    if kind == "pose" and size is None:
        raise ValueError("a pose map does not say how large its picture is")
    try:
        table = RECIPES[recipe] if isinstance(recipe, str) else recipe
        return pose_picture(array, table, size) if size and kind == "pose" else PAINTERS[kind](array, table)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FailureError.of(
            FailureKind.MODEL_BROKEN,
            f"The model does not say properly how its {kind} control is drawn.",
            "Download the model again.",
            f"recipe {recipe!r}: {type(error).__name__}: {error}",
        ) from error


def depth_picture(depth: Floats, recipe: dict[str, Any]) -> Picture:
    """Nearness in grey: relative inverse depth between two percentiles, near white, sky black.

    Distances that are not positive come from an orthographic view with geometry behind its plane; there is no
    inverse of those, so all of that view is drawn by plain distance.
    """
    low_percentile, high_percentile = recipe["percentiles"]
    is_geometry = np.isfinite(depth)
    grey = np.zeros(depth.shape, np.float64)
    if is_geometry.any():
        distance = depth[is_geometry].astype(np.float64)
        nearness = -distance if distance.min() <= 0.0 else 1.0 / distance
        low, high = np.percentile(nearness, [low_percentile, high_percentile])
        far = 0.0 if is_geometry.all() else float(recipe["far"])
        if high - low > 1e-6 * max(abs(low), abs(high)):
            grey[is_geometry] = far + (1.0 - far) * np.clip((nearness - low) / (high - low), 0.0, 1.0)
        else:
            grey[is_geometry] = 1.0
    return _grey(grey)


def normal_picture(normal: Floats, recipe: dict[str, Any]) -> Picture:
    """Directions in colour: each axis from -1..1 to 0..255, in the order and with the signs of the recipe."""
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    is_sky = length[..., 0] < 1e-6
    unit = normal / np.where(length < 1e-6, 1.0, length)
    channels = [unit[..., AXES[name[1]]] * {"+": 1.0, "-": -1.0}[name[0]] for name in recipe["channels"]]
    picture = _rounded((np.stack(channels, axis=2) + 1.0) / 2.0)
    picture[is_sky] = recipe["sky"]
    return picture


def line_picture(line: Floats, recipe: dict[str, Any]) -> Picture:
    """Lines in grey, white on black or black on white."""
    strength = np.clip(line, 0.0, 1.0)
    return _grey(strength if recipe["white_on_black"] else 1.0 - strength)


def _grey(values: NDArray[np.floating]) -> Picture:
    return np.repeat(_rounded(values)[..., None], 3, axis=2)


def _rounded(values: NDArray[np.floating]) -> Picture:
    return np.rint(values * 255.0).astype(np.uint8)


PAINTERS: dict[str, Callable[[Any, dict[str, Any]], Picture]] = {
    "depth": depth_picture,
    "normal": normal_picture,
    "line": line_picture,
}
