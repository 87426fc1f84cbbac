"""Random scenes: things on a ground, perhaps before a wall, and a camera that looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from .meshes import Floats, Ints, Mesh, joined, patch
from .shapes import TRAINING, Shape, tilted, waves

SUBJECT, SECOND, GROUND, WALL = range(4)
"""What a triangle belongs to."""


@dataclass(frozen=True, eq=False)
class Camera:
    """pose: (4, 4) camera to world; the camera looks along its -z, y is up. lens: half the picture's larger side
    at distance 1, or in scene units when orthographic."""

    pose: Floats
    lens: float
    is_orthographic: bool = False

    def projection(self, width: int, height: int) -> tuple[float, ...]:
        """4 x 4, row after row, from view space to clip space, as Blender's."""
        longer = max(width, height)
        x, y = longer / width / self.lens, longer / height / self.lens
        last = (0.0, 0.0, 0.0, 1.0) if self.is_orthographic else (0.0, 0.0, -1.0, 0.0)
        return (x, 0.0, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, 0.0, -1.002, -0.2, *last)


@dataclass(frozen=True, eq=False)
class Scene:
    """mesh: all there is. parts: (m,) which of SUBJECT, SECOND, GROUND, WALL each face is of. local: (n, 3) where each
    vertex is in its thing's own space, which textures follow. shapes: the names of the subject and the other things."""

    mesh: Mesh
    parts: Ints
    local: Floats
    camera: Camera
    shapes: tuple[str, str | None]
    background: str


def random_scene(rng: Generator, shapes: dict[str, Shape] = TRAINING) -> Scene:
    """A scene from these shapes. Two in five have other things of another look."""
    count = int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.3, 0.2, 0.18, 0.14, 0.1, 0.08]))
    has_second = count > 1 and rng.random() < 0.55
    names = [str(rng.choice(list(shapes))) for _ in range(2)]
    pieces: list[tuple[Mesh, Floats, int]] = []
    places: list[tuple[float, float, float]] = []
    for index in range(count):
        is_second = has_second and index >= (count + 1) // 2
        size = rng.uniform(1.0, 1.7) if index == 0 else rng.uniform(0.45, 1.3)
        name = names[is_second] if rng.random() < 0.8 or has_second else str(rng.choice(list(shapes)))
        mesh = shapes[name](rng)
        if rng.random() < 0.12:
            mesh = tilted(rng, mesh)
        if rng.random() < 0.25:
            mesh = mesh.scaled(1, rng.uniform(0.6, 1.3), rng.uniform(0.6, 1.5))
        mesh = mesh.turned("z", rng.uniform(0, 30)).on_ground(size)
        place = _free_place(rng, places, mesh)
        local = mesh.vertices - np.array((0, 0, size / 2), np.float32)
        if rng.random() < 0.06:
            place = (place[0], place[1], rng.uniform(0.1, 0.8))
        pieces.append((mesh.shifted(*place), local, SECOND if is_second else SUBJECT))
    background, settings = _surroundings(rng, has_ground=rng.random() > 0.07)
    camera = random_camera(rng, joined(*(mesh for mesh, _, _ in pieces)))
    pieces += [(mesh, mesh.vertices, part) for mesh, part in settings]
    return assemble(pieces, camera, (names[0], names[1] if has_second else None), background)


def assemble(
    pieces: Sequence[tuple[Mesh, Floats, int]], camera: Camera, shapes: tuple[str, str | None], background: str
) -> Scene:
    """A scene from (mesh, local coordinates, part)."""
    mesh = joined(*(piece[0] for piece in pieces))
    parts = np.concatenate([np.full(len(piece[0].faces), piece[2], np.int32) for piece in pieces])
    local = np.concatenate([piece[1] for piece in pieces]).astype(np.float32)
    return Scene(mesh, parts, local, camera, shapes, background)


def _free_place(rng: Generator, places: list[tuple[float, float, float]], mesh: Mesh) -> tuple[float, float, float]:
    """Somewhere on the ground, seldom inside another thing."""
    radius = float(np.abs(mesh.vertices[:, :2]).max())
    spread = 0.25
    x = y = 0.0
    for _ in range(20):
        x, y = rng.normal(size=2) * spread
        if all(np.hypot(x - px, y - py) > 0.85 * (radius + pr) for px, py, pr in places):
            break
        spread *= 1.18
    places.append((x, y, radius))
    return x, y, 0.0


def _surroundings(rng: Generator, has_ground: bool) -> tuple[str, list[tuple[Mesh, int]]]:
    if not has_ground:
        return "plain", []
    kind = str(rng.choice(["sky", "wall", "plain", "backdrop"], p=[0.33, 0.33, 0.2, 0.14]))
    reach = rng.uniform(3.0, 9.0) if kind == "plain" else rng.uniform(9.0, 30.0) if kind == "sky" else 9.0
    away = rng.uniform(1.6, 4.5)
    turn = rng.uniform(-35, 35) if kind == "wall" and rng.random() < 0.5 else 0.0
    if kind == "backdrop":
        return "plain", [(_backdrop(rng, away + 1.0).turned("z", turn), GROUND)]
    ground = _grid(reach, 56)
    if kind == "sky" and rng.random() < 0.45:
        ground = _hilly(rng, ground)
    found = [(ground, GROUND)]
    if kind == "wall":
        wall = _grid(9.0, 20).turned("x", 90).shifted(0, away, 0)
        found.append((wall.turned("z", turn), WALL))
        if rng.random() < 0.35:
            side = (
                _grid(9.0, 20).turned("x", 90).turned("z", 90).shifted(float(rng.choice([-1, 1])) * (away + 0.6), 0, 0)
            )
            found.append((side.turned("z", turn), WALL))
    return ("wall" if kind == "wall" else kind), found


def _grid(reach: float, count: int) -> Mesh:
    """A square on z = 0, finer towards its middle."""
    line = np.linspace(-1, 1, count, dtype=np.float32)
    line = np.sign(line) * np.abs(line) ** 1.6 * np.float32(reach)
    y, x = np.meshgrid(line, line, indexing="ij")
    return patch(np.stack((x, y, 0 * x), -1))


def _hilly(rng: Generator, ground: Mesh) -> Mesh:
    """Ground that rolls, flat where things stand."""
    far = np.hypot(ground.vertices[:, 0], ground.vertices[:, 1])
    rise = np.clip((far - 1.6) / 4.0, 0, 1) ** 2
    vertices = ground.vertices.copy()
    vertices[:, 2] += rise * rng.uniform(0.2, 0.9) * waves(rng, ground.vertices, rng.uniform(0.25, 0.7))
    count = int(np.sqrt(len(vertices)))
    return patch(vertices.reshape(count, count, 3))


def _backdrop(rng: Generator, away: float) -> Mesh:
    """A ground that bends up into a wall."""
    bend = rng.uniform(0.8, 2.0)
    angle = np.linspace(0, np.pi / 2, 12)
    y = np.concatenate(
        (np.linspace(-8, away - bend, 40, endpoint=False), away - bend + bend * np.sin(angle), [away] * 10)
    )
    z = np.concatenate((np.zeros(40), bend - bend * np.cos(angle), np.linspace(bend + 0.3, 8, 10)))
    x = np.linspace(-9, 9, 50)
    points = np.stack(np.broadcast_arrays(x[None, :], y[:, None], z[:, None]), -1)
    return patch(points.astype(np.float32))


def random_camera(rng: Generator, things: Mesh) -> Camera:
    """Looks at the things from the front, a little from above, so that they fill a good part of the picture."""
    low, high = things.vertices.min(0), things.vertices.max(0)
    centre = (low + high) / 2 + rng.normal(size=3) * 0.08 * (high - low)
    reach = float(np.linalg.norm(high - low)) / 2
    lens = float(rng.uniform(0.25, 0.55))
    height, turn = rng.uniform(2, 42), rng.normal() * 22
    distance = reach * rng.uniform(0.66, 1.1) / lens
    if rng.random() < 0.06:
        height = rng.uniform(42, 75)
    pitch, yaw = np.radians(height), np.radians(turn)
    back = np.array([np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    eye = centre + back * distance
    eye[2] = max(eye[2], 0.12)
    is_orthographic = rng.random() < 0.06
    return Camera(look_at(eye, centre), lens * distance if is_orthographic else lens, is_orthographic)


def look_at(eye: Floats, target: Floats) -> Floats:
    """A camera's pose at `eye` that looks at `target`, upright."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, eye
    return pose
