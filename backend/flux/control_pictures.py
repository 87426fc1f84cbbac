"""ControlMaps -> the pictures that ControlNets were trained on. numpy only; each net's way is data.

A recipe is a table. Depth: "far" (grey of the farthest geometry where sky is seen, 0..1) and "percentiles" (of the
inverse depth, which become black and white). Normal: "channels" (which axis is red, green, blue, with a sign; x right,
y up, z towards the camera) and "sky" (its colour). Line: "white_on_black". Pose: "radius" (of a joint's disc, half of a
limb's width, as a share of the picture's shorter side) and "limb_light" (how light a limb is beside a joint, 0..1).
Canny: "smooth" (pixels), "low", "high" (of Sobel's gradient of values 0..255). Soft edge: "core" and "halo" (widths, as
shares of the longer side) and "halo_strength" (0..1). Grey: "weights" of red, green, blue. Tile: "shrink" (how many
pixels become one). Blur: "sigma" (a share of the longer side).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..wire import ControlMaps, FailureError, FailureKind
from ..wire.edges import canny, connected, smoothed, thinned
from ..wire.maps import MAPS_OF
from ..wire.request import spoken
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
    # Line art nets; the detectors of drawings write light lines on a dark ground.
    "line_white_on_black": {"white_on_black": True},
    # Drawings: dark strokes on paper.
    "line_black_on_white": {"white_on_black": False},
    # Body without hands and face, as OpenPose's and DWPose's preprocessors draw it on a side of 512 pixels.
    "pose_openpose": {"radius": 4 / 512, "limb_light": 0.6},
    # The thresholds find about the edges that nets were taught with on plain photographs.
    "canny_white_on_black": {"smooth": 1.0, "low": 50.0, "high": 120.0},
    # Holistically nested edges (HED) and its like: wide, soft, brightest in the middle.
    "soft_edge_white_on_black": {"core": 0.002, "halo": 0.006, "halo_strength": 0.35},
    # The luma that image libraries make of a picture when they make it grey (ITU-R BT.601).
    "grey_luma": {"weights": [0.299, 0.587, 0.114]},
    # Pictures scaled down and up again: union nets, and jasper's Upscaler, which makes pictures four times as large.
    "tile_eighth": {"shrink": 8},
    "tile_quarter": {"shrink": 4},
    "blur_hundredth": {"sigma": 0.01},
}
LINE_WEAK, LINE_STRONG = 0.2, 0.5
"""A line map's line is drawn whole where it reaches the second and as long as it stays above the first."""
SOFT_STEP = 0.25
"""The step in grey, 0..1, that makes a full soft edge."""
AXES = {"x": 0, "y": 1, "z": 2}


def control_picture(
    maps: ControlMaps, kind: str, recipe: str | dict[str, Any], size: tuple[int, int] | None = None
) -> Picture:
    """(height, width, 3) uint8: what a net that was taught `kind` wants to see of the maps.

    recipe: a name in RECIPES or such a table. Which map it is made of, `MAPS_OF` says. size: width and height in
    pixels, for a map without a size of its own (pose). Raises `FailureError`: bad_request when the map is not there,
    model_broken when the recipe is not one.
    """
    name = maps.for_control(kind)
    if name is None:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"The {spoken(kind)} control has no {' or '.join(MAPS_OF[kind])} map.",
            "Capture the view again with this control switched on.",
        )
    if kind == "pose" and size is None:
        raise ValueError("a pose map does not say how large its picture is")
    try:
        table = RECIPES[recipe] if isinstance(recipe, str) else recipe
        array = maps.arrays()[name]
        return pose_picture(array, table, size) if size and kind == "pose" else PAINTERS[kind](array, table)
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise FailureError.of(
            FailureKind.MODEL_BROKEN,
            f"The model does not say properly how its {spoken(kind)} control is drawn.",
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


def canny_picture(seen: Floats | Picture, recipe: dict[str, Any]) -> Picture:
    """White lines one pixel wide on black: a line map's, else Canny's edges of colours."""
    low, high, smooth = float(recipe["low"]), float(recipe["high"]), float(recipe["smooth"])
    if seen.ndim == 2:
        edges = thinned(connected(seen > LINE_WEAK, seen > LINE_STRONG))
    else:
        edges = canny(smoothed(_luma(seen), smooth), low, high)
    return _grey(edges.astype(np.float32))


def soft_edge_picture(seen: Floats | Picture, recipe: dict[str, Any]) -> Picture:
    """Soft white edges on black: a line map's with a halo, else the slopes of colours, smoothed."""
    longer = max(seen.shape[:2])
    core, halo = (max(0.5, float(recipe[name]) * longer) for name in ("core", "halo"))
    halo_strength = float(recipe["halo_strength"])
    if seen.ndim == 2:
        # A straight line one pixel wide is as bright in the middle as it was.
        blurred = [smoothed(seen.clip(0.0, 1.0), sigma) * (sigma * math.sqrt(2.0 * math.pi)) for sigma in (core, halo)]
    else:
        blurred = [_slope(smoothed(_luma(seen) / 255.0, sigma), sigma) for sigma in (core, halo)]
    return _grey(np.maximum(blurred[0].clip(0.0, 1.0), halo_strength * blurred[1].clip(0.0, 1.0)))


def _slope(values: Floats, sigma: float) -> Floats:
    """The gradient's length, 1 where a step of SOFT_STEP was smoothed by `sigma`."""
    across, down = np.gradient(values, axis=1), np.gradient(values, axis=0)
    return np.hypot(across, down).astype(np.float32) * np.float32(sigma * math.sqrt(2.0 * math.pi) / SOFT_STEP)


def grey_picture(colour: Picture, recipe: dict[str, Any]) -> Picture:
    """The colours' luma."""
    return _grey(_luma(colour, recipe["weights"]) / 255.0)


def tile_picture(colour: Picture, recipe: dict[str, Any]) -> Picture:
    """What is left of the colours when `shrink` pixels a side have become one, at the old size."""
    shrink = int(recipe["shrink"])
    height, width = colour.shape[:2]
    padded = np.pad(colour.astype(np.float32), ((0, -height % shrink), (0, -width % shrink), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // shrink, padded.shape[1] // shrink
    small = padded.reshape(rows, shrink, columns, shrink, 3).mean((1, 3))
    large = _enlarged(_enlarged(small, 0, shrink), 1, shrink)
    return _rounded(large[:height, :width] / 255.0)


def _enlarged(values: NDArray[np.floating], axis: int, times: int) -> NDArray[np.floating]:
    """`times` places for each along an axis, linear between their middles."""
    size = values.shape[axis]
    places = ((np.arange(size * times) + 0.5) / times - 0.5).clip(0, size - 1)
    before = np.floor(places).astype(np.intp)
    share = (places - before).reshape(-1, *[1] * (values.ndim - 1 - axis))
    after = np.minimum(before + 1, size - 1)
    return values.take(before, axis) * (1.0 - share) + values.take(after, axis) * share


def blur_picture(colour: Picture, recipe: dict[str, Any]) -> Picture:
    """The colours, blurred."""
    return _rounded(smoothed(colour.astype(np.float32), float(recipe["sigma"]) * max(colour.shape[:2])) / 255.0)


def _luma(colour: Floats | Picture, weights: list[float] | None = None) -> Floats:
    """(height, width), 0..255."""
    red, green, blue = weights if weights is not None else RECIPES["grey_luma"]["weights"]
    return colour.astype(np.float32) @ np.array([red, green, blue], np.float32)


def _grey(values: NDArray[np.floating]) -> Picture:
    return np.repeat(_rounded(values)[..., None], 3, axis=2)


def _rounded(values: NDArray[np.floating]) -> Picture:
    return np.rint(values * 255.0).astype(np.uint8)


PAINTERS: dict[str, Callable[[Any, dict[str, Any]], Picture]] = {
    "depth": depth_picture,
    "normal": normal_picture,
    "line": line_picture,
    "canny": canny_picture,
    "soft_edge": soft_edge_picture,
    "grey": grey_picture,
    "tile": tile_picture,
    "blur": blur_picture,
}
"""For maps that have the picture's size; people are drawn by `pose_picture`."""
