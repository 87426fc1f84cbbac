"""Triangle meshes, made of patches: what is smooth shares vertices, what has an edge does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices, normals: (n, 3) float32; normals of unit length. faces: (m, 3) int32. z is up, the ground is z = 0."""

    vertices: Floats
    normals: Floats
    faces: Ints

    def moved(self, matrix: Floats, offset: Sequence[float] = (0.0, 0.0, 0.0)) -> Mesh:
        """The mesh through a 3 x 3 matrix (columns are where x, y and z go), then shifted."""
        inverse_transposed = np.linalg.inv(matrix.astype(np.float64)).T.astype(np.float32)
        vertices = self.vertices @ matrix.T.astype(np.float32) + np.asarray(offset, np.float32)
        return Mesh(vertices.astype(np.float32), unit(self.normals @ inverse_transposed.T), self.faces)

    def scaled(self, x: float, y: float, z: float) -> Mesh:
        return self.moved(np.diag([x, y, z]).astype(np.float32))

    def shifted(self, x: float, y: float, z: float) -> Mesh:
        return self.moved(np.eye(3, dtype=np.float32), (x, y, z))

    def turned(self, axis: str, degrees: float) -> Mesh:
        return self.moved(rotation(axis, degrees))

    def on_ground(self, size: float = 1.0) -> Mesh:
        """Standing on z = 0, centred, its largest extent `size`."""
        low, high = self.vertices.min(0), self.vertices.max(0)
        scale = size / float((high - low).max())
        centre = (low + high) / 2
        return self.shifted(-centre[0], -centre[1], -low[2]).scaled(scale, scale, scale)


def unit(vectors: Floats) -> Floats:
    length = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    return (vectors / np.maximum(length, 1e-9)).astype(np.float32)


def rotation(axis: str, degrees: float) -> Floats:
    """The 3 x 3 matrix that turns around an axis, anticlockwise seen from its tip."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3, dtype=np.float32)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one; where they overlap, only the outside is seen."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]).astype(np.int32),
    )


def patch(points: Floats, closed_rows: bool = False, closed_columns: bool = False) -> Mesh:
    """A smooth surface through (rows, columns, 3) points; closed: the last row (column) goes on to the first."""
    rows, columns = points.shape[:2]
    row = np.arange(rows if closed_rows else rows - 1)
    column = np.arange(columns if closed_columns else columns - 1)
    r, c = (part.ravel() for part in np.meshgrid(row, column, indexing="ij"))
    below, beside = (r + 1) % rows, (c + 1) % columns
    a, b, d, e = r * columns + c, r * columns + beside, below * columns + c, below * columns + beside
    faces = np.concatenate((np.stack((a, b, e), 1), np.stack((a, e, d), 1))).astype(np.int32)
    return smooth(points.reshape(-1, 3).astype(np.float32), faces)


def smooth(vertices: Floats, faces: Ints) -> Mesh:
    """Vertex normals are the mean of the faces around, by area."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    return Mesh(vertices, unit(normals), faces)


def flat(mesh: Mesh) -> Mesh:
    """Every face for itself."""
    corners = mesh.vertices[mesh.faces]
    normal = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    faces = np.arange(3 * len(mesh.faces), dtype=np.int32).reshape(-1, 3)
    return Mesh(corners.reshape(-1, 3), np.repeat(normal, 3, 0), faces)


def ring(count: int) -> tuple[Floats, Floats]:
    """cos and sin of `count` angles around the circle."""
    angle = np.arange(count, dtype=np.float32) * np.float32(2 * np.pi / count)
    return np.cos(angle), np.sin(angle)


def lathe(radii: Sequence[float] | Floats, heights: Sequence[float] | Floats, segments: int = 40) -> Mesh:
    """A profile turned around z, smooth along its length."""
    cos, sin = ring(segments)
    radius, height = np.asarray(radii, np.float32)[:, None], np.asarray(heights, np.float32)[:, None]
    return patch(np.stack((radius * cos, radius * sin, height + 0 * cos), -1), closed_columns=True)


def polygon(points: Floats) -> Mesh:
    """A flat patch inside a star-shaped outline (n, 3)."""
    centre = points.mean(0, keepdims=True)
    return flat(patch(np.stack((points, np.repeat(centre, len(points), 0))).astype(np.float32), closed_columns=True))


def prism(outline: Floats, height: float, taper: float = 1.0, sharp: bool = True) -> Mesh:
    """An outline (n, 2) drawn up along z, its top `taper` times as wide."""
    bottom = np.concatenate((outline, np.zeros((len(outline), 1), np.float32)), 1)
    top = np.concatenate((outline * taper, np.full((len(outline), 1), height, np.float32)), 1)
    side = patch(np.stack((bottom, top)).astype(np.float32), closed_columns=True)
    caps = [polygon(bottom), polygon(top)] if taper > 0 else [polygon(bottom)]
    return joined(flat(side) if sharp else side, *caps)


def tube(path: Floats, radius: float | Floats, closed: bool = False, segments: int = 12) -> Mesh:
    """A round pipe along (n, 3) points."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead = unit(ahead)
    side = np.zeros_like(path)
    side[0] = unit(np.cross(ahead[0], (0.3, 0.5, 0.81)))
    for index in range(1, len(path)):
        side[index] = unit(side[index - 1] - ahead[index] * (side[index - 1] @ ahead[index]))
    other = np.cross(ahead, side)
    cos, sin = ring(segments)
    thick = np.broadcast_to(np.asarray(radius, np.float32), (len(path),))[:, None, None]
    points = path[:, None] + thick * (cos[None, :, None] * side[:, None] + sin[None, :, None] * other[:, None])
    return patch(points.astype(np.float32), closed_rows=closed, closed_columns=True)
