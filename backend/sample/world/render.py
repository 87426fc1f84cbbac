"""A scene as training data: its maps as the product would capture them, and pictures of it in several looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...wire import ControlMaps
from ...wire.lines import lines_from_maps
from .looks import Appearance
from .meshes import Floats
from .scenes import Camera, Scene
from .shade import Shader
from .trace import Hits, Tracer

Picture = NDArray[np.uint8]
CONTRAST = 0.045
"""Neighbours that differ by more than this, in display values, are looked at again in more places."""
PLACES = ((0.125, 0.375), (0.625, 0.125), (0.375, 0.875), (0.875, 0.625))


@dataclass(frozen=True, eq=False)
class Rendered:
    """maps: depth, normal and line. parts: (height, width) int8 of the scene's parts, -1 for sky. pictures: one for
    each appearance, (height, width, 3) uint8."""

    maps: ControlMaps
    parts: NDArray[np.int8]
    pictures: list[Picture]


def render(scene: Scene, looks: list[Appearance], width: int, height: int, rng: Generator) -> Rendered:
    """Traces the scene once and paints it in each of the looks. width, height: pixels."""
    tracer = Tracer(scene, rng)
    camera = scene.camera
    hits = tracer.look(camera, width, height)
    shaders = [Shader(tracer, look, camera, rng) for look in looks]
    pictures = [shader.display(hits).reshape(height, width, 3) for shader in shaders]
    rough = np.zeros((height, width), bool)
    for picture in pictures:
        rough |= _is_rough(picture)
    softened = _looked_at_again(tracer, camera, shaders, rough)
    for picture, soft in zip(pictures, softened, strict=True):
        picture[rough] = soft
    rounded = [np.rint(picture * 255).astype(np.uint8) for picture in pictures]
    return Rendered(maps_of(hits, camera, width, height), hits.part.reshape(height, width).astype(np.int8), rounded)


def maps_of(hits: Hits, camera: Camera, width: int, height: int) -> ControlMaps:
    """The maps as the add-on captures them."""
    depth = hits.depth.reshape(height, width)
    normal = np.ascontiguousarray((hits.normal @ camera.pose[:3, :3]).reshape(height, width, 3), np.float32)
    return ControlMaps(depth, normal, lines_from_maps(depth, normal, camera.projection(width, height)))


def _is_rough(picture: Floats) -> NDArray[np.bool_]:
    rough = np.zeros(picture.shape[:2], bool)
    across = np.abs(np.diff(picture, axis=1)).max(2) > CONTRAST
    down = np.abs(np.diff(picture, axis=0)).max(2) > CONTRAST
    for edge, sides in ((across, (np.s_[:, :-1], np.s_[:, 1:])), (down, (np.s_[:-1], np.s_[1:]))):
        for side in sides:
            rough[side] |= edge
    return rough


def _looked_at_again(tracer: Tracer, camera: Camera, shaders: list[Shader], where: NDArray[np.bool_]) -> list[Floats]:
    """For each shader (n, 3): the mean of several rays through the pixels of `where`."""
    height, width = where.shape
    sums = [np.zeros((int(where.sum()), 3), np.float32) for _ in shaders]
    for place in PLACES:
        hits = tracer.look(camera, width, height, where, place)
        for total, shader in zip(sums, shaders, strict=True):
            total += shader.display(hits)
    return [total / np.float32(len(PLACES)) for total in sums]
