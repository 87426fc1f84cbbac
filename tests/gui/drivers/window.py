"""What the driver scripts share. Runs inside Blender's window: standard library and bpy only."""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy

PACKAGE = "bl_ext.user_default.grisaille"
GIVE_UP_SECONDS = 300.0
"""A bound for a broken test, not a measure of speed: a backend of low priority starts late beside other programs."""
Steps = Generator[float, None, dict[str, Any]]
"""A driver: yields how many seconds to wait before it goes on, returns its answer."""


def module(name: str) -> ModuleType:
    """A module of the installed extension, such as `addon.state`."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def drive(steps: Callable[[dict[str, Any]], Steps]) -> None:
    """Installs the extension, then walks through `steps` between Blender's own events; writes the answer and quits."""
    bpy.context.preferences.view.show_splash = False
    settings = json.loads(Path(sys.argv[sys.argv.index("--") + 1]).read_text())
    walk = _installed(settings, steps)

    def advance() -> float | None:
        try:
            return next(walk)
        except StopIteration as done:
            answer = done.value
        except BaseException:
            answer = {"error": traceback.format_exc()}
        Path(settings["answer"]).write_text(json.dumps(answer))
        bpy.ops.wm.quit_blender()
        return None

    bpy.app.timers.register(advance, first_interval=2.0, persistent=True)


def _installed(settings: dict[str, Any], steps: Callable[[dict[str, Any]], Steps]) -> Steps:
    bpy.ops.extensions.package_install_files(filepath=settings["archive"], repo="user_default", enable_on_install=True)
    set_preferences(settings)
    yield 1.0
    return (yield from steps(settings))


def set_preferences(settings: dict[str, Any]) -> None:
    """Blender forgets an add-on's preferences when it is disabled: say them again after a reload."""
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    preferences.backend_python = settings["python"]
    preferences.models_folder = settings["models"]
    preferences.data_folder = str(Path(settings["folder"]) / "data")


def set_scene(prompt: str, side: int) -> None:
    """Asks for a square picture of `side` pixels."""
    settings = bpy.context.scene.grisaille
    settings.prompt = prompt
    settings.size_mode = "CUSTOM"
    settings.width = settings.height = side


def view3d() -> dict[str, Any]:
    """The context override for the window's 3D view."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    return {"window": window, "area": area, "region": region, "space_data": area.spaces.active}


def until(condition: Callable[[], bool], seconds: float, step: float = 0.05) -> Generator[float, None, float]:
    """Waits until `condition` holds; returns how long that took. Raises `TimeoutError` after `seconds`."""
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > seconds:
            raise TimeoutError(f"{condition} did not hold within {seconds} s")
        yield step
    return time.perf_counter() - start


def show_panel() -> Generator[float, None, None]:
    """Opens the sidebar on Grisaille's tab."""
    override = view3d()
    override["space_data"].show_region_ui = True
    yield 2.0  # the tabs are there once it has been drawn
    region = next(region for region in override["area"].regions if region.type == "UI")
    region.active_panel_category = "Grisaille"
    yield 1.0
