"""A picture arrives in a window; it outlives Ctrl-Z, a reload of the add-on, and a backend that is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))
import window


def history() -> list[str]:
    return [entry.job_id for entry in bpy.context.scene.grisaille_history]


def editor_images() -> list[bpy.types.Image]:
    """What the open Image Editors show."""
    windows = bpy.context.window_manager.windows
    areas = [area for window in windows for area in window.screen.areas if area.type == "IMAGE_EDITOR"]
    return [area.spaces.active.image for area in areas if area.spaces.active.image is not None]


def generate() -> None:
    with bpy.context.temp_override(**window.view3d()):
        bpy.ops.grisaille.generate("INVOKE_DEFAULT")


def backend_process(python: str) -> int:
    """The process id of this Blender's backend."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"serve" in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise LookupError(f"no backend of {python} below this Blender")


def steps(settings: dict[str, Any]) -> window.Steps:
    answer: dict[str, Any] = {}
    state = window.module("addon.state")
    window.set_scene("a wooden cube", side=256)
    bpy.context.scene.grisaille.steps = 2
    bpy.ops.ed.undo_push(message="Prompt")  # as typing it in the panel does
    yield 1.0
    generate()
    answer["first"] = yield from window.until(lambda: len(history()) == 1, window.GIVE_UP_SECONDS)
    first = history()
    yield 2.0
    answer["shown"] = [image.name for image in editor_images()]

    with bpy.context.temp_override(**window.view3d()):
        bpy.ops.ed.undo()
    yield 1.0
    answer["after_undo"] = history() == first
    answer["shown_after_undo"] = [image.name for image in editor_images()]

    bpy.ops.preferences.addon_disable(module=window.PACKAGE)
    bpy.ops.preferences.addon_enable(module=window.PACKAGE)
    window.set_preferences(settings)
    yield 1.0
    answer["after_reload"] = history() == first

    bpy.context.scene.grisaille.steps = 200
    generate()
    yield from window.until(lambda: any(job.progress for job in state.get().jobs.values()), window.GIVE_UP_SECONDS)
    os.kill(backend_process(settings["python"]), signal.SIGKILL)
    killed = time.perf_counter()
    yield from window.until(lambda: state.get().failure is not None, 10)
    answer["said_dead_after"] = time.perf_counter() - killed
    answer["failure"] = str(state.get().failure)

    bpy.context.scene.grisaille.steps = 2
    generate()
    yield from window.until(lambda: len(history()) == 2, window.GIVE_UP_SECONDS)
    answer["torch"] = sorted({"torch", "diffusers", "PIL"} & set(sys.modules))
    return answer


window.drive(steps)
