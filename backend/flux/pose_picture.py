"""A pose map -> the coloured stick figures that pose ControlNets were trained on. numpy only."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..wire.joints import JOINTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

LIMBS = (
    ("neck", "right_shoulder"), ("neck", "left_shoulder"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    ("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("neck", "nose"), ("nose", "right_eye"), ("right_eye", "right_ear"), ("nose", "left_eye"), ("left_eye", "left_ear"),
)  # fmt: skip
"""In the order that they are drawn and coloured in: later ones lie on top."""


def colours() -> Picture:
    """(18, 3) uint8: OpenPose's colours of the joints in their order, of which the first 17 are the limbs'.

    A wheel of 18 hues, full and bright, each component rounded down.
    """
    wheel = [colorsys.hsv_to_rgb(index / len(JOINTS), 1.0, 1.0) for index in range(len(JOINTS))]
    return np.floor(np.array(wheel) * 255.0 + 1e-6).astype(np.uint8)


def pose_picture(pose: NDArray[np.float32], recipe: dict[str, Any], size: tuple[int, int]) -> Picture:
    """(height, width, 3) uint8, black where nobody is; the last person lies on top.

    pose: as in `ControlMaps`. recipe: see `control_pictures`. size: width and height in pixels. A limb is drawn where
    both its ends are visible: an ellipse over its whole length. Pixels are in or out, as in the training pictures.
    """
    width, height = size
    # In a smaller disc there may be no pixel's centre.
    radius, light = max(1.0, float(recipe["radius"]) * min(width, height)), float(recipe["limb_light"])
    picture = np.zeros((height, width, 3), np.uint8)
    palette = colours()
    for person in pose.astype(np.float64):
        places = person[:, :2] * (width, height)
        visible = person[:, 2] > 0.0
        for number, ends in enumerate(LIMBS):
            first, second = (JOINTS.index(name) for name in ends)
            if visible[first] and visible[second]:
                dimmed = (palette[number] * light).astype(np.uint8)
                _fill_ellipse(picture, places[first], places[second], radius, dimmed)
        for number in np.flatnonzero(visible):
            _fill_ellipse(picture, places[number], places[number], radius, palette[number])
    return picture


def _fill_ellipse(picture: Picture, start: Any, end: Any, radius: float, colour: Any) -> None:
    """Colours the pixels whose centres lie in the ellipse with an axis from start to end (pixels), `radius` thick.

    Where the two are nearer than that it is a disc.
    """
    height, width = picture.shape[:2]
    along = end - start
    half = float(np.hypot(*along)) / 2.0
    along = along / (2.0 * half) if half > radius else np.array([1.0, 0.0])
    half = max(half, radius)
    centre = (start + end) / 2.0
    low = np.clip(np.floor(centre - half), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(centre + half), 0, (width, height)).astype(int)
    x = np.arange(low[0], high[0]) + 0.5 - centre[0]
    y = (np.arange(low[1], high[1]) + 0.5 - centre[1])[:, None]
    inside = ((x * along[0] + y * along[1]) / half) ** 2 + ((y * along[0] - x * along[1]) / radius) ** 2 <= 1.0
    picture[low[1] : high[1], low[0] : high[0]][inside] = colour
