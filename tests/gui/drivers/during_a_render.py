"""Captures while Blender renders: what can be drawn is, what needs a render of its own is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))
import window


def is_rendering() -> bool:
    return bpy.app.is_job_running("RENDER")


def steps(settings: dict[str, Any]) -> window.Steps:
    capture = window.module("addon.capture")
    failure = window.module("backend.wire").FailureError
    context, place = bpy.context, window.view3d()
    scene = context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_adaptive_sampling = 1_000_000, False
    with context.temp_override(**place):
        bpy.ops.render.render("INVOKE_DEFAULT")
    yield from window.until(is_rendering, window.GIVE_UP_SECONDS)
    answer: dict[str, Any] = {}
    seen = capture.capture_viewport(context, place["space_data"], place["region"], 128, 96, ["depth", "normal"])
    answer["viewport"] = bool((seen.maps.depth < 100.0).any())
    seen = capture.capture_camera(context, 128, 96, ["depth", "line"])
    answer["camera"] = bool((seen.maps.depth < 100.0).any() and seen.maps.line.any())
    bpy.data.objects["Cube"].modifiers.new("Subdivision", "SUBSURF").render_levels = 3
    try:
        capture.capture_camera(context, 128, 96, ["depth"])
        answer["refused"] = ""
    except failure as error:
        answer["refused"] = str(error)
    answer["still_rendering"] = is_rendering()
    return answer


window.drive(steps)
