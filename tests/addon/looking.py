"""Captures for the tests, by either truth, and how far two of them are apart."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import bpy
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.addon.conftest import PACKAGE

ALL = ("depth", "normal", "line")


def module(name: str) -> ModuleType:
    """A module of the installed extension, such as "addon.capture"."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def need_gpu() -> None:
    if not module("addon.compat").gpu_context(start=True):
        pytest.skip("this Blender draws only with a window; bpy 5.2 (.venv-5.2) with EGL draws without")


def view_3d() -> tuple[Any, Any]:
    """The space and the region of the first 3D view of the window that Blender has also in background."""
    for area in bpy.context.window_manager.windows[0].screen.areas:
        if area.type == "VIEW_3D":
            return area.spaces.active, next(region for region in area.regions if region.type == "WINDOW")
    raise AssertionError("the factory screen has no 3D view")


def drawn(width: int, height: int) -> Any:
    """ControlMaps of what the 3D view shows, from the scene's camera."""
    capture, scene, layer = module("addon.capture.capture"), bpy.context.scene, bpy.context.view_layer
    space, region = view_3d()
    layer.update()
    view = module("addon.capture").view_of_camera(scene.camera, layer.depsgraph, scene, width, height)
    maps = module("addon.capture.gpu_draw").draw_depth_and_normals(scene, layer, space, region, view)
    return capture._finished(*maps, view, frozenset(ALL)).maps


def rendered(width: int, height: int, layer: Any = None) -> Any:
    """ControlMaps of what Cycles renders through the scene's camera."""
    capture, scene = module("addon.capture.capture"), bpy.context.scene
    layer = layer or bpy.context.view_layer
    layer.update()
    view = module("addon.capture").view_of_camera(scene.camera, layer.depsgraph, scene, width, height)
    depth, normal, _line = module("addon.capture.cycles_render").render_maps(scene, layer, scene.camera, view, False)
    return capture._finished(depth, normal, view, frozenset(ALL)).maps


@dataclass(frozen=True)
class Apart:
    """How far two captures are apart. Angles in degrees; depths relative; shares 0..1."""

    silhouette_iou: float
    depth_within_percent: float
    normal_median: float
    normal_within_10: float
    lines_in_common: float


def apart(one: Any, other: Any) -> Apart:
    """Compares ControlMaps inside the mask that both have. A line counts as common when the other's is a pixel off."""
    masks = np.isfinite(one.depth), np.isfinite(other.depth)
    both, either = masks[0] & masks[1], masks[0] | masks[1]
    assert both.any(), "nothing is seen in both"
    error = np.abs(one.depth[both] / other.depth[both] - 1.0)
    cosine = np.clip((one.normal[both] * other.normal[both]).sum(axis=-1), -1.0, 1.0)
    angle = np.degrees(np.arccos(cosine))
    lines = one.line > 0.5, other.line > 0.5
    common = (lines[0] & grown(lines[1])).sum() + (lines[1] & grown(lines[0])).sum()
    return Apart(
        silhouette_iou=float(both.sum() / either.sum()),
        depth_within_percent=float((error < 0.01).mean()),
        normal_median=float(np.median(angle)),
        normal_within_10=float((angle < 10.0).mean()),
        lines_in_common=float(common / max(1, lines[0].sum() + lines[1].sum())),
    )


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its eight neighbours."""
    wide = np.pad(mask, 1)
    height, width = mask.shape
    return np.logical_or.reduce([wide[y : y + height, x : x + width] for y in range(3) for x in range(3)])


def seen_share(maps: Any) -> float:
    """The share of the picture that is not sky."""
    return float(np.isfinite(maps.depth).mean())
