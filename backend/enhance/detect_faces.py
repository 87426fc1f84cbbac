"""Where faces are in a picture: MTCNN, as facenet-pytorch has it with its weights (MIT), upright and turned.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks" (SPL 23, 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..wire import FailureError, FailureKind

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Points = NDArray[np.float64]

SIDE_MAX = 1536
"""Pixels: larger pictures are looked at smaller."""
SMALLEST = 20
"""Pixels on a side of the smallest face that is looked for, in the picture as it is looked at."""
SCORE_MIN = 0.95
QUARTERS = (0, 1, 3, 2)
"""Turns of a quarter that are looked at. The network knows faces up to about 45 degrees from upright."""
OVERLAP_MAX = 0.3


@dataclass(frozen=True, eq=False, slots=True)
class Face:
    """points: (5, 2), x and y in pixels of eyes, nose and corners of the mouth, left ones first as an upright face has
    them. box: left, top, right, bottom. score: how sure it is, 0..1.
    """

    points: Points
    box: tuple[float, float, float, float]
    score: float


class FaceDetector:
    """MTCNN on a device."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Raises `FailureError` (backend_not_found) where its package is not installed."""
        try:
            from facenet_pytorch.models.mtcnn import MTCNN
        except ImportError as error:
            raise FailureError.of(
                FailureKind.BACKEND_NOT_FOUND,
                "The backend's Python has no package facenet-pytorch, which finds faces.",
                "Install the backend again, or switch Faces off.",
                str(error),
            ) from error
        self._net: Any = MTCNN(keep_all=True, min_face_size=SMALLEST, device=device)

    def find(self, picture: NDArray[np.uint8], check: Callable[[], None] = lambda: None) -> list[Face]:
        """(height, width, 3) -> its faces, from left to right. check: called now and then; ends it by raising."""
        from PIL import Image

        height, width = picture.shape[:2]
        shrink = min(1.0, SIDE_MAX / max(height, width))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        if min(size) < SMALLEST:
            return []
        small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
        found: list[Face] = []
        for quarters in QUARTERS:
            check()
            found += self._upright(np.ascontiguousarray(np.rot90(small, quarters)), quarters, size)
        scale = width / size[0], height / size[1]
        return sorted((_scaled(face, scale) for face in _best(found)), key=lambda face: face.box[0])

    def _upright(self, turned: NDArray[np.uint8], quarters: int, size: tuple[int, int]) -> list[Face]:
        """The faces of a picture that was turned, in places of the one that was not. size: of that one."""
        boxes, scores, points = self._net.detect(turned, landmarks=True)
        if boxes is None or points is None:
            return []
        faces = []
        for box, score, five in zip(boxes, scores, points, strict=True):
            if score is None or score < SCORE_MIN or not _is_face(np.asarray(five, np.float64)):
                continue
            corners = _turned_back(np.asarray(box, np.float64).reshape(2, 2), quarters, size)
            low, high = corners.min(0), corners.max(0)
            places = _turned_back(np.asarray(five, np.float64), quarters, size)
            faces.append(Face(places, (low[0], low[1], high[0], high[1]), float(score)))
        return faces


def _is_face(points: Points) -> bool:
    """Whether the points lie as in a face that stands more or less upright: eyes side by side, above the mouth."""
    eyes, mouth = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    across = float(np.hypot(*eyes))
    is_upright = mouth[1] > 0.0 and eyes[0] > 0.0
    return is_upright and across > 2.0 and 0.4 < float(np.hypot(*mouth)) / across < 3.0


def _turned_back(points: Points, quarters: int, size: tuple[int, int]) -> Points:
    """Places in a picture that `np.rot90` turned -> places in the picture before. size: its width and height."""
    x, y = points[:, 0], points[:, 1]
    right, bottom = size[0] - 1.0, size[1] - 1.0
    turns = {0: (x, y), 1: (right - y, x), 2: (right - x, bottom - y), 3: (y, bottom - x)}
    return np.stack(turns[quarters], axis=1)


def _scaled(face: Face, scale: tuple[float, float]) -> Face:
    left, top, right, bottom = face.box
    points = (face.points + 0.5) * scale - 0.5
    return Face(points, (left * scale[0], top * scale[1], right * scale[0], bottom * scale[1]), face.score)


def _best(faces: list[Face]) -> list[Face]:
    """Of those that lie over one another the surest: a face may be seen in two turns."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_overlap(face.box, other.box) < OVERLAP_MAX for other in kept):
            kept.append(face)
    return kept


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The area in both, as a part of the smaller one's."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(0.0, width) * max(0.0, height) / max(1e-6, min(areas))
