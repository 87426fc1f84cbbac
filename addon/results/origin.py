"""Where a result comes from and belongs to. It travels with the job and is on disk beside the result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import bpy

from ...backend.wire import FailureError, FailureKind
from .. import state

if TYPE_CHECKING:
    from ...backend.wire import GenerationRequest
    from ..capture import View


def make(scene: bpy.types.Scene, view: View | None, destination: str, distance: float) -> dict[str, str]:
    """The origin of a job started in `scene` now. `distance`: from the view to the nearest thing, in scene units.

    view: None where nothing is looked at.
    """
    return {
        "file": bpy.data.filepath,
        "session": state.get().session,
        "scene": scene.name,
        "view": json.dumps(view.to_json()) if view is not None else "",
        "destination": destination,
        "distance": repr(distance),
    }


def of_image(image: bpy.types.Image, request: GenerationRequest) -> dict[str, str]:
    """What an enhanced image takes on of the one that it was made of: its name, its colour space, its view."""
    holds_colours = request.enhancement is None or request.enhancement.data == "colour"
    # Light has become display values on its way.
    space = "sRGB" if image.is_float and holds_colours else image.colorspace_settings.name
    return {"image": image.name, "colorspace": space, "view": str(image.get("grisaille_view", ""))}


def is_of_this_file(origin: dict[str, str]) -> bool:
    """Whether the job was started in the file that is open now, in this session or from the same path before."""
    if origin.get("session") == state.get().session:
        return True
    return bool(origin.get("file")) and origin.get("file") == bpy.data.filepath


def scene_of(origin: dict[str, str]) -> bpy.types.Scene:
    """The scene the job was started in; where it is gone, the one that is shown."""
    scene = bpy.data.scenes.get(origin.get("scene", ""))
    return scene or bpy.context.scene or bpy.data.scenes[0]


def view_of(origin: dict[str, str]) -> View:
    """What the result was seen from. Raises `FailureError` when another version wrote it."""
    from ..capture import View

    try:
        return View.from_json(json.loads(origin.get("view", "")))
    except ValueError as error:
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            "This picture does not say where it was seen from, in a way that this version can read.",
            "Update the add-on, or generate the picture again.",
            str(error),
        ) from error


def distance_of(origin: dict[str, str]) -> float:
    """From the view's point to the nearest thing, in scene units; 0 where it is not known."""
    try:
        return float(origin.get("distance") or 0.0)
    except ValueError:
        return 0.0
