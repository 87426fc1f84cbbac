"""The things in the world, by name. Each is a function from a random generator to a mesh of size about 1.

Those in HELD_OUT never occur in training: the figures are taken on them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from .meshes import Floats, Mesh, flat, joined, lathe, patch, polygon, prism, ring, rotation, smooth, tube

Shape = Callable[[Generator], Mesh]


def ball(rng: Generator | None = None, rows: int = 24, columns: int = 40) -> Mesh:
    """A unit ball around the origin."""
    polar = np.linspace(0, np.pi, rows, dtype=np.float32)
    return lathe(np.sin(polar), -np.cos(polar), columns)


def superball(rng: Generator, roundness: float) -> Mesh:
    """A superellipsoid: 1 is a ball, near 0 a box with round edges, above 1 a diamond."""
    mesh = ball(rows=36, columns=56)
    direction = np.sign(mesh.vertices) * np.abs(mesh.vertices) ** roundness
    return smooth(direction.astype(np.float32), mesh.faces)


def waves(rng: Generator, points: Floats, frequency: float, count: int = 7) -> Floats:
    """Smooth noise of about unit size at (n, 3) points: a few plane waves."""
    direction = rng.normal(size=(count, 3)).astype(np.float32) * frequency
    phase = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
    return np.sin(points @ direction.T + phase).sum(1) * np.float32(np.sqrt(2.0 / count))


def displaced(rng: Generator, mesh: Mesh, amount: float, frequency: float) -> Mesh:
    """Pushed in and out along its normals by smooth noise."""
    push = amount * waves(rng, mesh.vertices, frequency)
    return smooth((mesh.vertices + mesh.normals * push[:, None]).astype(np.float32), mesh.faces)


def box(rng: Generator | None = None) -> Mesh:
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)
    return prism(square, 1.0)


def block(x: float, y: float, z: float, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """A box of a size, with the middle of its underside at a place."""
    return box().scaled(x, y, z).shifted(*at)


def _sphere(rng: Generator) -> Mesh:
    return ball()


def _egg(rng: Generator) -> Mesh:
    return displaced(rng, ball().scaled(1, rng.uniform(0.6, 1), rng.uniform(0.6, 1.6)), 0.0, 1.0)


def _cube(rng: Generator) -> Mesh:
    if rng.random() < 0.5:
        return superball(rng, rng.uniform(0.08, 0.3))
    return box().scaled(1, rng.uniform(0.7, 1.2), rng.uniform(0.6, 1.3))


def _brick(rng: Generator) -> Mesh:
    return box().scaled(1, rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.5))


def _column(rng: Generator) -> Mesh:
    outline = np.stack(ring(40), 1) * 0.5
    return prism(outline, rng.uniform(0.5, 2.2), rng.uniform(0.85, 1.0), sharp=False)


def _cone(rng: Generator) -> Mesh:
    outline = np.stack(ring(40), 1) * 0.5
    return prism(outline, rng.uniform(0.7, 1.5), float(rng.choice([0.0, 0.0, 0.4])), sharp=False)


def _pyramid(rng: Generator) -> Mesh:
    outline = np.stack(ring(int(rng.integers(3, 7))), 1) * 0.6
    return prism(outline, rng.uniform(0.6, 1.2), float(rng.choice([0.0, 0.0, 0.5])))


def _prism(rng: Generator) -> Mesh:
    return prism(np.stack(ring(int(rng.integers(3, 9))), 1) * 0.5, rng.uniform(0.3, 1.6))


def _torus(rng: Generator) -> Mesh:
    cos, sin = ring(48)
    path = np.stack((cos, sin, 0 * cos), 1)
    mesh = tube(path, rng.uniform(0.18, 0.42), closed=True, segments=20)
    return mesh.turned("x", float(rng.choice([0, 0, 90, 60]))).turned("z", rng.uniform(0, 180))


def _capsule(rng: Generator) -> Mesh:
    polar = np.linspace(0, np.pi / 2, 10)
    length = rng.uniform(0.3, 1.6)
    radii = np.concatenate((np.sin(polar), np.sin(polar[::-1])))
    heights = np.concatenate((-np.cos(polar), length + np.cos(polar[::-1])))
    return (
        lathe(radii.tolist(), heights.tolist()).turned("x", float(rng.choice([0, 90]))).turned("z", rng.uniform(0, 180))
    )


def _diamond(rng: Generator) -> Mesh:
    return superball(rng, rng.uniform(1.5, 2.2)).scaled(1, 1, rng.uniform(0.9, 1.4))


def _rock(rng: Generator) -> Mesh:
    if rng.random() < 0.5:
        lumpy = displaced(rng, ball(rows=int(rng.integers(6, 9)), columns=int(rng.integers(7, 11))), 0.16, 2.0)
        return flat(lumpy).scaled(1, rng.uniform(0.7, 1), rng.uniform(0.5, 1))
    lumpy = displaced(rng, ball(rows=40, columns=64), 0.14, 1.8)
    return displaced(rng, lumpy, 0.035, 6.0).scaled(1, rng.uniform(0.7, 1), rng.uniform(0.5, 1))


def _blob(rng: Generator) -> Mesh:
    return displaced(rng, ball(rows=36, columns=56), rng.uniform(0.15, 0.28), rng.uniform(1.3, 2.2))


def _cloud(rng: Generator) -> Mesh:
    balls = [ball(rows=16, columns=24)]
    for _ in range(int(rng.integers(3, 8))):
        size = rng.uniform(0.35, 0.8)
        place = rng.normal(size=3) * (0.7, 0.7, 0.4)
        balls.append(ball(rows=14, columns=22).scaled(size, size, size).shifted(*place))
    return joined(*balls)


def _vase(rng: Generator) -> Mesh:
    height = np.linspace(0, 1, 28)
    knots = rng.uniform(0.18, 0.6, 5)
    knots[3] *= rng.uniform(0.4, 0.9)
    radius = np.interp(height, np.linspace(0, 1, 5), knots)
    radius = np.convolve(np.pad(radius, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    outside = lathe(radius.tolist(), (height * 1.5).tolist())
    inside = lathe((radius * 0.88).tolist(), (height * 1.49 + 0.02).tolist())
    rim = lathe([radius[-1], radius[-1] * 0.88], [1.5, 1.51])
    return joined(outside, inside, rim)


def _bowl(rng: Generator) -> Mesh:
    polar = np.linspace(0.05, rng.uniform(1.2, 1.7), 16)
    return joined(
        lathe(np.sin(polar).tolist(), (1 - np.cos(polar)).tolist()),
        lathe((0.92 * np.sin(polar)).tolist(), (1.04 - 0.96 * np.cos(polar)).tolist()),
    )


def _bottle(rng: Generator) -> Mesh:
    neck, shoulder = rng.uniform(0.1, 0.2), rng.uniform(0.9, 1.3)
    heights = [0, 0.03, shoulder, shoulder + 0.12, shoulder + 0.28, shoulder + 0.34, shoulder + 0.8]
    body = lathe([0.38, 0.42, 0.42, 0.38, neck * 1.4, neck, neck], heights)
    return joined(body, polygon(np.stack((neck * ring(24)[0], neck * ring(24)[1], np.full(24, heights[-1])), 1)))


def _cup(rng: Generator) -> Mesh:
    wide, tall = 0.5, rng.uniform(0.7, 1.2)
    bottom = np.stack((wide * ring(32)[0], wide * ring(32)[1], np.full(32, 0.05)), 1)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 16)
    path = np.stack((wide + 0.3 * np.cos(angle), 0 * angle, tall * 0.5 + 0.28 * np.sin(angle)), 1).astype(np.float32)
    walls = [lathe([wide, wide], [0, tall]), lathe([wide * 0.88] * 2, [0.05, tall]), polygon(bottom)]
    rim = lathe([wide, wide * 0.88], [tall, tall])
    return joined(*walls, rim, tube(path, 0.07)).turned("z", rng.uniform(0, 360))


def _table(rng: Generator) -> Mesh:
    wide, deep, tall, leg = rng.uniform(1, 1.6), rng.uniform(0.7, 1), rng.uniform(0.5, 0.9), rng.uniform(0.08, 0.14)
    x, y = wide / 2 - leg, deep / 2 - leg
    legs = [block(leg, leg, tall, (sx * x, sy * y, 0)) for sx in (-1, 1) for sy in (-1, 1)]
    return joined(block(wide, deep, 0.1, (0, 0, tall)), *legs).turned("z", rng.uniform(0, 360))


def _stairs(rng: Generator) -> Mesh:
    count = int(rng.integers(3, 6))
    steps = [block(1.0, 0.3, 0.22 * (i + 1), (0, 0.3 * i, 0)) for i in range(count)]
    return joined(*steps).turned("z", rng.uniform(-60, 240))


def _house(rng: Generator) -> Mesh:
    tall, roof = rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.6)
    gable = np.array([[-0.6, 0], [0.6, 0], [0, roof]], np.float32)
    top = prism(gable, 1.2).turned("x", 90).shifted(0, 0.6, tall)
    return joined(block(1, 1, tall), top).turned("z", rng.uniform(0, 360))


def _tree(rng: Generator) -> Mesh:
    trunk = prism(np.stack(ring(12), 1) * 0.1, 0.6, sharp=False)
    if rng.random() < 0.5:
        crowns = [
            prism(np.stack(ring(24), 1) * (0.5 - 0.1 * i), 0.6, 0.0, sharp=False).shifted(0, 0, 0.4 + 0.35 * i)
            for i in range(3)
        ]
        return joined(trunk, *crowns)
    return joined(trunk, _cloud(rng).scaled(0.4, 0.4, 0.4).shifted(0, 0, 0.9))


def _pillar(rng: Generator) -> Mesh:
    """A column on a base under a slab."""
    shaft = prism(np.stack(ring(int(rng.choice([8, 32]))), 1) * 0.3, 1.4, 0.85, sharp=False).shifted(0, 0, 0.2)
    return joined(block(0.9, 0.9, 0.2), shaft, block(0.85, 0.85, 0.18, (0, 0, 1.6))).turned("z", rng.uniform(0, 90))


def _spring(rng: Generator) -> Mesh:
    turn = np.linspace(0, 2 * np.pi * rng.uniform(2, 4), 110)
    path = np.stack((0.5 * np.cos(turn), 0.5 * np.sin(turn), 0.11 * turn / np.pi * 1.4), 1).astype(np.float32)
    return tube(path, rng.uniform(0.07, 0.12))


def _animal(rng: Generator) -> Mesh:
    """A head with a muzzle, ears and eyes, or a body with a head and legs: round parts grown together."""

    def part(x: float, y: float, z: float, a: float, b: float, c: float) -> Mesh:
        return ball(rows=16, columns=24).scaled(a, b, c).shifted(x, y, z)

    if rng.random() < 0.6:
        wide = rng.uniform(0.7, 1)
        ear = rng.uniform(0.15, 0.4)
        parts = [
            part(0, 0, 0, wide, 0.8, rng.uniform(0.7, 0.9)),
            part(0, -0.65, -0.3, 0.45, 0.4, rng.uniform(0.25, 0.4)),
        ]
        for side in (-1, 1):
            parts.append(part(side * (wide + 0.1), 0.1, rng.uniform(-0.1, 0.5), ear, 0.12, ear * 1.3))
            parts.append(part(side * 0.33, -0.68, 0.2, 0.17, 0.12, 0.17))
    else:
        parts = [part(0, 0, 0.9, 0.5, 1.0, 0.45), part(0, -1.1, 1.4, 0.35, 0.42, 0.35)]
        parts += [part(sx * 0.28, sy * 0.6, 0.4, 0.14, 0.14, 0.45) for sx in (-1, 1) for sy in (-1, 1)]
    return joined(*parts).turned("z", rng.uniform(-70, 70))


def _figure(rng: Generator) -> Mesh:
    """Balls on top of each other: a snowman, a pawn, a bust."""
    base = lathe([0.55, 0.5, 0.3, 0.22, 0.2], [0, 0.15, 0.5, 0.9, 1.1])
    if rng.random() < 0.5:
        return joined(base, ball(rows=18, columns=28).scaled(0.32, 0.32, 0.34).shifted(0, 0, 1.3))
    return joined(
        *(
            ball(rows=18, columns=28).scaled(s, s, s).shifted(0, 0, z)
            for s, z in ((0.6, 0.5), (0.42, 1.3), (0.28, 1.85))
        )
    )


def _twisted(rng: Generator) -> Mesh:
    height = np.linspace(0, 1.6, 24, dtype=np.float32)
    turn = height * rng.uniform(0.5, 1.6)
    corner = np.arange(4) * np.pi / 2 + np.pi / 4
    angle = corner[None] + turn[:, None]
    wide = (0.6 * (1 - rng.uniform(0, 0.3) * height / 1.6))[:, None]
    points = np.stack((wide * np.cos(angle), wide * np.sin(angle), height[:, None] + 0 * angle), -1).astype(np.float32)
    sides = [patch(np.ascontiguousarray(points[:, [i, (i + 1) % 4]])) for i in range(4)]
    return joined(*sides, polygon(points[-1]))


def _stack(rng: Generator) -> Mesh:
    parts, top = [], 0.0
    for _ in range(int(rng.integers(2, 4))):
        name = rng.choice(["cube", "brick", "column", "prism", "capsule", "torus"])
        mesh = TRAINING[name](rng).on_ground(rng.uniform(0.6, 1.1)).shifted(0, 0, top)
        top = float(mesh.vertices[:, 2].max()) - 0.02
        parts.append(mesh)
    return joined(*parts)


def _arch(rng: Generator) -> Mesh:
    angle = np.linspace(0, np.pi, 20)
    outer = np.concatenate(([[0.7, 0]], np.stack((0.7 * np.cos(angle), 0.7 + 0.7 * np.sin(angle)), 1), [[-0.7, 0]]))
    inner = outer * (0.6, 0.85)
    loop = np.stack((outer, inner), 1).astype(np.float32)
    sides = []
    for depth in (0.0, 0.4):
        flat_points = np.insert(loop, 1, depth, axis=2)
        sides.append(flat(patch(flat_points)))
    for edge in (outer, inner):
        walls = np.stack([np.insert(edge.astype(np.float32), 1, depth, axis=1) for depth in (0.0, 0.4)], 1)
        sides.append(patch(walls))
    return joined(*sides).turned("z", rng.uniform(-50, 50))


def _star(rng: Generator) -> Mesh:
    points = int(rng.integers(5, 8))
    cos, sin = ring(2 * points)
    radius = np.where(np.arange(2 * points) % 2, 0.45, 1.0)
    outline = np.stack((radius * cos, radius * sin), 1).astype(np.float32)
    return prism(outline, rng.uniform(0.25, 0.5)).turned("x", 75).turned("z", rng.uniform(-40, 40))


def _chair(rng: Generator) -> Mesh:
    legs = [block(0.1, 0.1, 0.55, (sx * 0.35, sy * 0.35, 0)) for sx in (-1, 1) for sy in (-1, 1)]
    back = block(0.8, 0.1, rng.uniform(0.6, 0.9), (0, 0.35, 0.65))
    return joined(block(0.8, 0.8, 0.1, (0, 0, 0.55)), *legs, back).turned("z", rng.uniform(-60, 60))


def _knot(rng: Generator) -> Mesh:
    t = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    path = np.stack((np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)), 1)
    return tube(path.astype(np.float32), 0.55, closed=True, segments=16).turned("x", rng.uniform(30, 90))


def _goblet(rng: Generator) -> Mesh:
    return joined(
        lathe([0.4, 0.38, 0.08, 0.07, 0.1, 0.4, 0.5, 0.44], [0, 0.05, 0.12, 0.6, 0.7, 0.95, 1.3, 1.6]),
        lathe([0.05, 0.35, 0.45, 0.4], [0.75, 0.97, 1.3, 1.6]),
    )


def _mushroom(rng: Generator) -> Mesh:
    polar = np.linspace(0, np.pi / 2, 14)
    cap = lathe([0.15, *np.cos(polar).tolist()], [0.9, *(0.85 + 0.6 * np.sin(polar)).tolist()])
    return joined(lathe([0.3, 0.22, 0.2, 0.24], [0, 0.2, 0.6, 0.9]), cap)


def _robot(rng: Generator) -> Mesh:
    head = superball(rng, 0.25).scaled(0.3, 0.28, 0.25).shifted(0, 0, 1.75)
    arms = [block(0.18, 0.2, 0.7, (side * 0.52, 0, 0.75)) for side in (-1, 1)]
    legs = [block(0.24, 0.26, 0.7, (side * 0.2, 0, 0)) for side in (-1, 1)]
    return joined(block(0.8, 0.45, 0.8, (0, 0, 0.7)), head, *arms, *legs).turned("z", rng.uniform(-50, 50))


TRAINING: dict[str, Shape] = {
    "sphere": _sphere, "egg": _egg, "cube": _cube, "brick": _brick, "column": _column, "cone": _cone,
    "pyramid": _pyramid, "prism": _prism, "torus": _torus, "capsule": _capsule, "diamond": _diamond, "rock": _rock,
    "blob": _blob, "cloud": _cloud, "vase": _vase, "bowl": _bowl, "bottle": _bottle, "cup": _cup, "table": _table,
    "stairs": _stairs, "house": _house, "tree": _tree, "pillar": _pillar, "spring": _spring, "animal": _animal,
    "figure": _figure, "twisted": _twisted, "stack": _stack, "arch": _arch,
}  # fmt: skip
HELD_OUT: dict[str, Shape] = {
    "star": _star, "chair": _chair, "knot": _knot, "goblet": _goblet, "mushroom": _mushroom, "robot": _robot,
}  # fmt: skip


def tilted(rng: Generator, mesh: Mesh) -> Mesh:
    """Thrown down at any angle."""
    turn = rotation("x", rng.uniform(0, 360)) @ rotation("y", rng.uniform(0, 360))
    return mesh.moved(turn.astype(np.float32))
