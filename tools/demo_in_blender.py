"""The demo's part inside Blender: python -m tools.demo_in_blender ORDER.json, with the bpy wheel's interpreter.

Does what a user would do: installs the zip, opens the scene, sets the panel's settings, presses the buttons.
"""

from __future__ import annotations

import json
import math
import sys
import threading
from pathlib import Path
from typing import Any

import bpy
import mathutils

PACKAGE = "bl_ext.user_default.grisaille"
STATE = "_grisaille_state"
"""Where the add-on keeps its state; the job's progress is read there while the operator waits for the job."""
CONTROLS = {"depth": "Grisaille Depth", "normal": "Grisaille Normal", "line": "Grisaille Line Art"}
PAINTED = (0.2, 0.75)
"""The part of the whole bar that the picture takes."""
AROUND = math.radians(-28)
"""How far round the last tile is seen from: from the painted view, a projection looks like the picture."""


def main(path: Path) -> None:
    """Runs the order that tools/demo.py wrote."""
    order: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    report(0.06, "installing the extension in Blender")
    install(order)
    bpy.ops.wm.open_mainfile(filepath=order["scene"])
    scene: Any = bpy.context.scene
    choose_settings(scene, order)
    select_meshes(scene)
    report(0.1, "starting the backend, showing the controls")
    operators: Any = bpy.ops
    operators.grisaille.show_controls()
    for kind, name in CONTROLS.items():
        image: Any = bpy.data.images[name]
        Path(order["controls"], f"{kind}.png").write_bytes(image.packed_file.data)
    with ShownProgress():
        operators.grisaille.generate(seed=1, filepath=order["picture"])
    report(0.76, "saving the scene")
    bpy.ops.wm.save_as_mainfile(filepath=order["saved"], compress=True)
    report(0.78, "rendering the textured scene")
    render(scene, order["render"])
    bpy.ops.preferences.addon_disable(module=PACKAGE)


def install(order: dict[str, Any]) -> None:
    """Installs and enables the zip as Blender's Install from Disk does, and points it at the backend."""
    bpy.ops.wm.read_factory_settings()
    bpy.ops.extensions.package_install_files(
        filepath=order["archive"], repo="user_default", enable_on_install=True, overwrite=True
    )
    all_preferences: Any = bpy.context.preferences
    preferences = all_preferences.addons[PACKAGE].preferences
    preferences.backend_python = order["python"]
    preferences.data_folder = order["data"]


def choose_settings(scene: Any, order: dict[str, Any]) -> None:
    """Fills in the panel."""
    settings = scene.grisaille
    settings.prompt = order["prompt"]
    settings.model_name = order["model"]
    settings.size_mode = "CUSTOM"
    settings.width, settings.height = order["width"], order["height"]
    settings.steps = order["steps"]
    settings.source = "CAMERA"
    settings.destination = "MATERIAL"
    for kind in CONTROLS:
        setattr(settings, f"use_{kind}", True)
    scene.render.resolution_x, scene.render.resolution_y = order["width"], order["height"]


def select_meshes(scene: Any) -> None:
    """Selects what the picture is projected on: the still life, and not the backdrop behind it."""
    for thing in scene.objects:
        thing.select_set(thing.type == "MESH" and thing.name != "Backdrop")


def render(scene: Any, path: str) -> None:
    """Renders the scene with the picture on it, from further round, in Cycles on the CPU."""
    camera = scene.camera
    camera.matrix_world = mathutils.Matrix.Rotation(AROUND, 4, "Z") @ camera.matrix_world
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = 12
    scene.cycles.use_denoising = True
    scene.render.filepath = path
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.render.render(write_still=True)


class ShownProgress(threading.Thread):
    """Reports, from a thread of its own, how far the job is that the main thread waits for."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        last = ""
        low, high = PAINTED
        while not self._ended.wait(0.1):
            for job in list(sys.modules[STATE].state.jobs.values()):
                progress = job.progress
                if progress is None:
                    continue
                steps = f" {progress.step}/{progress.steps}" if progress.steps else ""
                if f"{progress.stage}{steps}" != last:
                    last = f"{progress.stage}{steps}"
                    report(low + (high - low) * progress.fraction, last)


def report(fraction: float, text: str) -> None:
    """One line that the demo draws its bar from; Blender prints lines of its own between them."""
    from tools.demo import PROGRESS

    print(f"{PROGRESS}{fraction:.3f} {text}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
