"""Colour: what the surfaces' patterns are, and what the light makes of them. Linear light in, display values out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .looks import COLOURS, Appearance, Look
from .meshes import Floats, unit
from .scenes import GROUND, SECOND, SUBJECT, WALL, Camera
from .shapes import waves
from .trace import Hits, Tracer


@dataclass(frozen=True)
class Light:
    """key: where it comes from seen from the camera (x right, y up, z back). colour, ambient: linear. soft: how wide.

    zenith, horizon: the sky's colours.
    """

    key: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: tuple[float, float, float]
    soft: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]


LIGHTS: dict[str, Light] = {
    "studio": Light(
        (-0.75, 0.75, 0.6), (0.95, 0.94, 0.92), (0.42, 0.42, 0.43), 0.22, (0.42, 0.56, 0.78), (0.75, 0.8, 0.85)
    ),
    "sunny": Light(
        (-0.8, 0.8, 0.35), (1.5, 1.38, 1.15), (0.28, 0.34, 0.46), 0.0, (0.13, 0.33, 0.8), (0.55, 0.72, 0.92)
    ),
    "sunset": Light(
        (-0.95, 0.33, 0.3), (1.55, 0.75, 0.28), (0.26, 0.22, 0.32), 0.0, (0.22, 0.2, 0.42), (1.0, 0.45, 0.16)
    ),
    "overcast": Light((-0.2, 1.0, 0.3), (0.0, 0.0, 0.0), (0.86, 0.88, 0.92), 0.0, (0.5, 0.54, 0.6), (0.68, 0.7, 0.73)),
    "night": Light(
        (-0.7, 0.8, 0.2), (0.17, 0.23, 0.36), (0.05, 0.07, 0.13), 0.0, (0.008, 0.012, 0.04), (0.03, 0.045, 0.1)
    ),
}
SOFT_RAYS = ((0.9, 0.2), (-0.6, 0.8), (-0.3, -0.95), (0.1, 0.0))
EXPOSURE = 1.25


class Shader:
    """Paints hits in one appearance. The same generator state paints the same patterns."""

    def __init__(self, tracer: Tracer, look: Appearance, camera: Camera, rng: Generator) -> None:
        self.tracer, self.look, self.light = tracer, look, LIGHTS[look.light]
        self.seed = int(rng.integers(2**31))
        self.turn = camera.pose[:3, :3]
        side = np.array([1.0 if look.side == "left" else -1.0, 1.0, 1.0])
        key = np.array(self.light.key) * side + rng.normal(size=3) * 0.08
        # Seen from the camera, but never from under the ground.
        heading = self.turn @ np.array([key[0], 0.0, key[2]])
        level = unit(np.array([heading[0], heading[1], 0.0], np.float32)) * np.hypot(key[0], key[2])
        self.key = unit(np.array([level[0], level[1], max(0.25, key[1])], np.float32))
        self.wall = Look(look.background_colour, "matte")
        self.tint = np.array(self.light.ambient) + 0.55 * np.array(self.light.colour)

    def display(self, hits: Hits) -> Floats:
        """(n, 3) display values, 0..1."""
        linear = self._background(hits.ray)
        for part, look in (
            (SUBJECT, self.look.subject),
            (SECOND, self.look.second),
            (GROUND, self.look.ground),
            (WALL, self.wall),
        ):
            where = hits.part == part
            if look is not None and where.any():
                linear[where] = self._surface(hits.at(where), look, part)
        toned = 1.0 - np.exp(-EXPOSURE * 1.15 * np.maximum(linear, 0.0))
        return np.asarray(toned ** (1 / 2.2), np.float32)

    def _background(self, ray: Floats) -> Floats:
        """What a ray that meets nothing sees."""
        up = ray[:, 2:3]
        if self.look.background == "sky":
            share = np.clip(up * 1.8, 0, 1) ** 0.7
            return np.asarray(
                np.array(self.light.horizon) * (1 - share) + np.array(self.light.zenith) * share, np.float32
            )
        colour = np.array(COLOURS[self.look.background_colour]) * self.tint
        return np.asarray(colour * (1.0 + 0.25 * np.clip(up, -1, 1)), np.float32)

    def _surface(self, hits: Hits, look: Look, part: int) -> Floats:
        rng = np.random.default_rng((self.seed, part))
        albedo = pattern(rng, hits, look, is_ground=part in (GROUND, WALL))
        lit = self._lit(hits)
        facing = np.maximum(hits.normal @ self.key, 0.0) * lit
        upward = 0.72 + 0.28 * hits.normal[:, 2:3]
        shade = (0.25 + 0.75 * hits.openness[:, None] ** 1.3) * upward
        ground = np.array(COLOURS[self.look.ground.colour]) * self.tint
        bounce = 0.16 * ground * np.clip(-hits.normal[:, 2:3] * 0.5 + 0.5, 0, 1) * hits.openness[:, None]
        diffuse = facing[:, None] * np.array(self.light.colour) + shade * np.array(self.light.ambient) + bounce
        mirrored = hits.ray - 2 * (hits.ray * hits.normal).sum(1, keepdims=True) * hits.normal
        if look.material == "metal":
            seen = self._around(mirrored, 0.06)
            return albedo * (0.18 * diffuse + 1.05 * seen * (0.35 + 0.65 * hits.openness[:, None]))
        colour = albedo * diffuse
        if look.material in ("glossy", "marble"):
            grazing = (1 - np.clip(-(hits.ray * hits.normal).sum(1, keepdims=True), 0, 1)) ** 5
            shine = (0.05 + 0.75 * grazing) * (1.0 if look.material == "glossy" else 0.5)
            seen = self._around(mirrored, 0.1) * (0.3 + 0.7 * hits.openness[:, None])
            spot = np.clip(mirrored @ self.key, 0, 1) ** 90 * lit
            colour = colour * (1 - 0.6 * shine) + shine * seen + 1.6 * spot[:, None] * np.array(self.light.colour)
        return colour

    def _lit(self, hits: Hits) -> Floats:
        if not any(self.light.colour):
            return np.zeros(len(hits.part), np.float32)
        if self.light.soft == 0.0:
            return self.tracer.lit(hits, self.key)
        aside = unit(np.cross(self.key, (0.0, 0.0, 1.0)).astype(np.float32))
        above = np.cross(aside, self.key)
        rays = [unit((self.key + self.light.soft * (x * aside + y * above)).astype(np.float32)) for x, y in SOFT_RAYS]
        return np.mean([self.tracer.lit(hits, ray) for ray in rays], axis=0)

    def _around(self, direction: Floats, edge: float) -> Floats:
        """What a mirror sees: the ground below, the background above, the light."""
        up = np.clip(direction[:, 2:3] / edge * 0.5 + 0.5, 0, 1)
        below = np.array(COLOURS[self.look.ground.colour]) * self.tint * 0.55
        above = self._background(direction) + 0.35 * self.tint * np.clip(direction[:, 2:3], 0, 1)
        towards = np.clip(direction @ self.key, -1, 1)[:, None]
        lamp = (
            np.clip((towards - 0.82) / 0.1, 0, 1)
            * 1.8
            * (np.array(self.light.colour) + 0.4 * np.array(self.light.ambient))
        )
        return below * (1 - up) + above * up + lamp


def pattern(rng: Generator, hits: Hits, look: Look, is_ground: bool) -> Floats:
    """(n, 3) linear colour of the surface itself."""
    base = np.array(COLOURS[look.colour], np.float32)
    place = hits.local + rng.uniform(-0.02, 0.02, 3).astype(np.float32) + np.float32(0 if is_ground else 0.061)
    scale = 1.7 if is_ground else 1.0
    painter = PATTERNS.get(look.material)
    if painter is None:
        return np.broadcast_to(base, place.shape)
    other = np.array(
        COLOURS["white"] if look.colour not in ("white", "yellow") else COLOURS["black"], np.float32
    ) + np.float32(0.01)
    return np.asarray(painter(rng, place / scale, hits.normal, base, other, is_ground), np.float32)


def _wood(rng: Generator, place: Floats, normal: Floats, base: Floats, other: Floats, is_ground: bool) -> Floats:
    if is_ground:
        width = 0.3
        board = np.floor(place[:, 1] / width)
        within = place[:, 1] / width - board
        tone = 0.78 + 0.3 * np.abs(np.sin(board * 12.9898 + 4.0))
        grain = 0.9 + 0.1 * np.sin(place[:, 1] * 70 + 3 * waves(rng, place * (1.2, 6, 1), 1.0) + board * 5)
        seam = np.where((within < 0.07) | (within > 0.95), 0.42, 1.0)
        return base * (tone * grain * seam)[:, None]
    bend = place + 0.05 * np.stack([waves(rng, place, 3.0) for _ in range(3)], 1)
    rings = np.hypot(bend[:, 0], 1.3 * bend[:, 1] + 0.25 * bend[:, 2] + 0.5) * 9.0
    tone = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
    return base * (0.5 + 0.72 * tone**0.7)[:, None]


def _brick(rng: Generator, place: Floats, normal: Floats, base: Floats, other: Floats, is_ground: bool) -> Floats:
    axis = np.abs(normal).argmax(1)
    across = np.where(axis == 0, place[:, 1], place[:, 0])
    along = np.where(axis == 2, place[:, 1], place[:, 2])
    row = np.floor(along / 0.16)
    column = np.floor(across / 0.36 + 0.5 * (row % 2))
    x, y = across / 0.36 + 0.5 * (row % 2) - column, along / 0.16 - row
    is_mortar = (x < 0.09) | (y < 0.19)
    tone = 0.72 + 0.5 * np.abs(np.sin(row * 78.233 + column * 12.9898))
    return np.where(is_mortar[:, None], np.float32(0.5) * base + np.float32(0.22), base * tone[:, None])


def _checker(rng: Generator, place: Floats, normal: Floats, base: Floats, other: Floats, is_ground: bool) -> Floats:
    cells = np.floor(place / 0.27)
    # A flat ground would flicker between two cells of its height.
    odd = (cells[:, :2] if is_ground and np.abs(normal[:, 2]).mean() > 0.7 else cells).sum(1) % 2
    return np.where(odd[:, None] > 0, base, other)


def _stripes(rng: Generator, place: Floats, normal: Floats, base: Floats, other: Floats, is_ground: bool) -> Floats:
    axis = rng.choice(2 if is_ground else 3)
    odd = np.floor(place[:, axis] / 0.17) % 2
    return np.where(odd[:, None] > 0, base, other)


def _marble(rng: Generator, place: Floats, normal: Floats, base: Floats, other: Floats, is_ground: bool) -> Floats:
    bend = waves(rng, place, 2.2) + 0.5 * waves(rng, place, 5.0)
    vein = 1 - np.abs(np.sin(2.6 * (place @ np.array((1.0, 0.7, 0.9))) + 1.3 * bend))
    deep = np.clip(vein, 0, 1)[:, None] ** 4
    light = 0.6 * base + 0.4 * (0.35 * base + 0.45)
    dark = np.array(COLOURS["grey"]) * 0.5 + 0.2 * base if base.min() > 0.1 else base * 0.3
    return light * (1 - 0.85 * deep) + dark * 0.85 * deep


PATTERNS = {"wood": _wood, "brick": _brick, "checker": _checker, "stripes": _stripes, "marble": _marble}
Picture = NDArray[np.uint8]
