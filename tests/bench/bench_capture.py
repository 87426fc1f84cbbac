"""Capturing a 3D view against just drawing it, in software OpenGL. Run with bpy 5.2: it draws without a window."""

from __future__ import annotations

import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.bench.figure import Figure

IN_BLENDER = "5.2"

SIDE = 1024
"""Pixels."""
ROUNDS = 9
MAPS = ("depth", "normal", "line")


def run() -> list[Figure]:
    """The capture of three maps at 1024 x 1024 ÷ one bare `draw_view3d` of the same view with the same shading.

    The rounds take turns, so that other load on the machine weighs on both. Raises `RuntimeError` where this Blender
    cannot draw without a window.
    """
    with tempfile.TemporaryDirectory() as folder:
        capture = _staged_capture(Path(folder))
        import bpy

        from tests.addon import scenes

        scenes.still_life()
        space, region = _view_3d(bpy)
        space.region_3d.view_perspective = "CAMERA"
        whole, bare = [], []
        shading = importlib.import_module(f"{capture.__name__}.gpu_draw").shading_that_shows_normals
        draw, free = _bare_draw(bpy, space, region, capture)
        for _ in range(ROUNDS):
            whole.append(_seconds(lambda: capture.capture_viewport(bpy.context, space, region, SIDE, SIDE, MAPS)))
            with shading(space):
                bare.append(_seconds(draw))
        free()
    ours, theirs = statistics.median(whole[1:]), statistics.median(bare[1:])
    detail = f"capture {ours * 1e3:.0f} ms ÷ bare draw_view3d {theirs * 1e3:.0f} ms at {SIDE} x {SIDE}, software GL"
    return [Figure("viewport capture ÷ one draw", ours / theirs, 3.0, detail)]


def _staged_capture(folder: Path) -> ModuleType:
    import bpy

    from tools.staging import stage

    bpy.ops.wm.read_factory_settings()
    stage(folder / "grisaille")
    sys.path.insert(0, str(folder))
    if not importlib.import_module("grisaille.addon.compat").gpu_context(start=True):
        raise RuntimeError("this Blender draws only with a window: run with .venv-5.2 and EGL")
    return importlib.import_module("grisaille.addon.capture")


def _view_3d(bpy: Any) -> tuple[Any, Any]:
    area = next(area for area in bpy.context.window_manager.windows[0].screen.areas if area.type == "VIEW_3D")
    return area.spaces.active, next(region for region in area.regions if region.type == "WINDOW")


def _bare_draw(bpy: Any, space: Any, region: Any, capture: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Draws the view as Blender's API does by itself, into an off-screen picture that is there already."""
    import gpu

    scene, layer = bpy.context.scene, bpy.context.view_layer
    view = capture.view_of_viewport(space, region, layer.depsgraph, scene, SIDE, SIDE)
    offscreen: Any = gpu.types.GPUOffScreen(SIDE, SIDE, format="RGBA16F")
    matrices = view.world_to_view_matrix(), view.projection_matrix()

    def draw() -> None:
        offscreen.draw_view3d(scene, layer, space, region, *matrices, do_color_management=False)
        # Drawing is done when its picture can be read: one pixel is enough to wait for it.
        with offscreen.bind():
            gpu.state.active_framebuffer_get().read_depth(0, 0, 1, 1)

    return draw, offscreen.free


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    for figure in run():
        print(f"{figure.name}: {figure.ratio:.2f} (target {figure.target}); {figure.detail}")


if __name__ == "__main__":
    main()
