"""A face between its picture and the upright square that networks for faces read.

Points and places are (x, y) in pixels, with pixel centres at whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import grid_sample, interpolate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Matrix = NDArray[np.float64]

FACE_SIDE = 512
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""Where eyes, nose and corners of the mouth lie in the 512 x 512 faces of FFHQ, on which GFPGAN, RestoreFormer and
others were trained: their own numbers, in facexlib's FaceRestoreHelper. Left and right as the picture shows them."""


def similarity(points: Matrix, target: Matrix = TEMPLATE) -> Matrix:
    """(n, 2), (n, 2) -> (2, 3): turn, scale and shift that bring the points nearest to the target.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (PAMI 13, 1991), eqs.
    40 to 43, without mirroring.
    """
    from_mean, to_mean = points.mean(0), target.mean(0)
    centred, wanted = points - from_mean, target - to_mean
    u, singular, vt = np.linalg.svd(wanted.T @ centred / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ np.diag(signs) @ vt
    scale = (singular * signs).sum() / max(float((centred**2).sum() / len(points)), 1e-12)
    return np.hstack([scale * turn, (to_mean - scale * turn @ from_mean)[:, None]])


def inverse(matrix: Matrix) -> Matrix:
    """The (2, 3) matrix that undoes another."""
    turn = np.linalg.inv(matrix[:, :2])
    return np.hstack([turn, -turn @ matrix[:, 2:]])


def moved(points: Matrix, matrix: Matrix) -> Matrix:
    """(n, 2) through a (2, 3) matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def scale_of(matrix: Matrix) -> float:
    """How many times as long lines become."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def warp(image: Floats, matrix: Matrix, size: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> Floats:
    """(h, w, c) -> (height, width, c): the image moved by a matrix, bicubic, its border repeated beyond.

    size: width and height. origin: the place that becomes the first pixel. What shrinks is averaged first.
    """
    back = inverse(matrix)
    shrink = 1.0 / scale_of(matrix)
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    if shrink > 1.5:
        reduced = [max(1, round(side / shrink)) for side in image.shape[:2]]
        tensor = interpolate(tensor, reduced, mode="bicubic", antialias=True, align_corners=False)
    y, x = np.mgrid[origin[1] : origin[1] + size[1], origin[0] : origin[0] + size[0]]
    places = moved(np.stack([x, y], -1).reshape(-1, 2).astype(np.float64), back)
    # grid_sample counts from -1 to 1, from edge to edge, whatever the size of the image is by now.
    grid = (places + 0.5) / (image.shape[1], image.shape[0]) * 2.0 - 1.0
    shaped = torch.from_numpy(grid.astype(np.float32)).reshape(1, size[1], size[0], 2)
    found = grid_sample(tensor, shaped, mode="bicubic", padding_mode="border", align_corners=False)
    return found[0].permute(1, 2, 0).contiguous().numpy()


def face_mask(side: int = FACE_SIDE) -> Floats:
    """(side, side, 1), 0..1: 1 on a face in the square, falling to exactly 0 well within its border."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1.0)
    # An egg around the template's points: brow to chin, cheek to cheek; the fourth power makes it fuller than a circle.
    distance = (np.abs((x - 0.5) / 0.38) ** 4 + np.abs((y - 0.53) / 0.44) ** 4) ** 0.25
    t = np.clip((1.0 - distance) / 0.3, 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)[..., None]
