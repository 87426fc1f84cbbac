"""Rays through a scene: what each pixel sees, what light reaches it. Embree does the intersections."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .meshes import Floats, unit
from .scenes import Camera, Scene

AMBIENT_RAYS = 14
AMBIENT_REACH = 1.6
LIFT = 2e-3
"""How far off a surface a ray starts, so that it does not meet it again, in scene units."""


@dataclass(frozen=True, eq=False)
class Hits:
    """What n rays meet. part: (n,) of the scene's parts, -1 where nothing is. depth: (n,) planar, inf where nothing is.

    position, normal (towards the viewer), local, ray: (n, 3). openness: (n,) 0..1, how much of the sky is seen.
    """

    part: NDArray[np.int32]
    depth: Floats
    position: Floats
    normal: Floats
    local: Floats
    ray: Floats
    openness: Floats

    def at(self, where: NDArray[np.bool_]) -> Hits:
        return Hits(*(getattr(self, field.name)[where] for field in fields(Hits)))


class Tracer:
    """A scene that rays can be sent through."""

    def __init__(self, scene: Scene, rng: Generator) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.scene = scene
        self._embree = EmbreeScene()
        # Embree keeps no reference of its own to what Python gave it.
        self._mesh = TriangleMesh(self._embree, scene.mesh.vertices, scene.mesh.faces)
        self._openness = self._ambient(rng)

    def look(self, camera: Camera, width: int, height: int, where: NDArray[np.bool_] | None = None,
             offset: tuple[float, float] = (0.5, 0.5)) -> Hits:  # fmt: skip
        """Through each pixel, or those of `where` (height, width), at `offset` within it; row 0 is the top."""
        rows, columns = np.nonzero(np.ones((height, width), bool) if where is None else where)
        longer = max(width, height)
        x = ((columns + offset[0]) * 2 - width) / longer * camera.lens
        y = (height - (rows + offset[1]) * 2) / longer * camera.lens
        turn, eye = camera.pose[:3, :3], camera.pose[:3, 3]
        if camera.is_orthographic:
            origins = eye + np.stack((x, y, 0 * x), 1) @ turn.T
            rays = np.broadcast_to(-turn[:, 2], origins.shape)
        else:
            rays = unit((np.stack((x, y, np.full_like(x, -1.0)), 1) @ turn.T).astype(np.float32))
            origins = np.broadcast_to(eye, rays.shape)
        return self._meet(origins, rays, -turn[:, 2])

    def _meet(self, origins: Floats, rays: Floats, ahead: Floats) -> Hits:
        origins, rays = np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(rays, np.float32)
        found = self._embree.run(origins, rays, output=True)
        is_hit = found["primID"] >= 0
        face = np.where(is_hit, found["primID"], 0)
        u, v = found["u"][:, None], found["v"][:, None]
        corners = self.scene.mesh.faces[face]
        shares = (1 - u - v, u, v)

        def spread(values: Floats) -> Floats:
            first, second, third = (share * values[corners[:, index]] for index, share in enumerate(shares))
            return first + second + third

        distance = np.where(is_hit, found["tfar"], 0.0)[:, None]
        normal = unit(spread(self.scene.mesh.normals)) * is_hit[:, None]
        # Blender shows a surface's normal on the side that is looked at.
        away = np.sign((found["Ng"] * rays).sum(1, keepdims=True))
        inside = np.sign((found["Ng"] * normal).sum(1, keepdims=True))
        normal = normal * np.where(away * inside == 0, 1.0, -away * inside)
        depth = np.where(is_hit, distance[:, 0] * (rays @ ahead), np.inf)
        openness = spread(self._openness[:, None])[:, 0]
        part = np.where(is_hit, self.scene.parts[face], -1).astype(np.int32)
        values = (depth, origins + distance * rays, normal, spread(self.scene.local), rays, openness)
        return Hits(part, *(np.asarray(value, np.float32) for value in values))

    def lit(self, hits: Hits, towards: Floats) -> Floats:
        """(n,) 0 or 1: whether light from the direction reaches what was met."""
        origins = np.ascontiguousarray(hits.position + LIFT * hits.normal, np.float32)
        rays = np.ascontiguousarray(np.broadcast_to(towards, origins.shape), np.float32)
        faces_light = (hits.normal @ towards > 0) & (hits.part >= 0)
        free = np.zeros(len(origins), np.float32)
        if faces_light.any():
            free[faces_light] = self._embree.run(origins[faces_light], rays[faces_light], query="OCCLUDED") != 0
        return free

    def _ambient(self, rng: Generator) -> Floats:
        """(vertices,) 0..1: the part of the sky that each vertex sees, found once for any number of pictures."""
        mesh = self.scene.mesh
        spread = unit(rng.normal(size=(AMBIENT_RAYS, 3)).astype(np.float32))
        rays = unit(mesh.normals[:, None] * 1.02 + spread[None]).reshape(-1, 3)
        origins = np.repeat(mesh.vertices + LIFT * mesh.normals, AMBIENT_RAYS, 0).astype(np.float32)
        reach = np.full(len(rays), AMBIENT_REACH, np.float32)
        free = self._embree.run(origins, np.ascontiguousarray(rays), dists=reach, query="OCCLUDED") != 0
        return free.reshape(-1, AMBIENT_RAYS).mean(1).astype(np.float32)
