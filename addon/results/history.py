"""The history in the .blend: each result with what made it and where it was seen from."""

from __future__ import annotations

import json
import time
from typing import Any

import bpy

from ...backend.wire import GenerationRequest
from . import images


class GrisailleResult(bpy.types.PropertyGroup):
    """One picture in `scene.grisaille_history`. The pointer keeps its image from being purged."""

    image: bpy.props.PointerProperty(type=bpy.types.Image, name="Image")
    prompt: bpy.props.StringProperty(name="Prompt")
    request: bpy.props.StringProperty(name="Request")
    origin: bpy.props.StringProperty(name="Origin")
    job_id: bpy.props.StringProperty(name="Job")
    created: bpy.props.StringProperty(name="Created")


def of(scene: bpy.types.Scene) -> Any:
    """The collection of a scene's results, oldest first."""
    return scene.grisaille_history  # pyright: ignore[reportAttributeAccessIssue]


def job_ids() -> set[str]:
    """Of all results in this file whose image is there."""
    return {entry.job_id for scene in bpy.data.scenes for entry in of(scene) if entry.image is not None}


def find(job_id: str) -> tuple[bpy.types.Scene, int] | None:
    """The scene and the place in its history of a result."""
    for scene in bpy.data.scenes:
        for index, entry in enumerate(of(scene)):
            if entry.job_id == job_id:
                return scene, index
    return None


def entry_of(job_id: str) -> GrisailleResult | None:
    """A result by its job, or None when it is not in this file."""
    found = find(job_id)
    return of(found[0])[found[1]] if found else None


def active(scene: bpy.types.Scene) -> GrisailleResult | None:
    """The result that is chosen in the panel's list."""
    index = scene.grisaille_history_index  # pyright: ignore[reportAttributeAccessIssue]
    entries = of(scene)
    return entries[index] if 0 <= index < len(entries) else None


def add(
    scene: bpy.types.Scene, job_id: str, request: GenerationRequest, png: bytes, origin: dict[str, str]
) -> GrisailleResult:
    """Packs the picture and enters it at the end of the scene's history, chosen."""
    found = find(job_id)
    if found:  # its image was deleted by hand: the entry gets it back
        scene = found[0]
        entry = of(scene)[found[1]]
    else:
        entry = of(scene).add()
        scene.grisaille_history_index = len(of(scene)) - 1  # pyright: ignore[reportAttributeAccessIssue]
    entry.image = images.pack_result(job_id, request, png, origin)
    entry.name = entry.prompt = request.prompt or entry.image.name
    entry.request = json.dumps(request.to_json())
    entry.origin = json.dumps(origin)
    entry.job_id = job_id
    entry.created = time.strftime("%Y-%m-%d %H:%M:%S")
    return entry


def remove(job_id: str) -> None:
    """Takes a result out of the history, and its image out of the file when nothing else uses it."""
    found = find(job_id)
    if not found:
        return
    scene, index = found
    image = of(scene)[index].image
    of(scene).remove(index)
    last = max(0, len(of(scene)) - 1)
    scene.grisaille_history_index = min(scene.grisaille_history_index, last)  # pyright: ignore
    if image is not None and image.users == 0:
        bpy.data.images.remove(image)


def request_of(entry: GrisailleResult) -> GenerationRequest:
    """The Request that made a result. Raises `FailureError` when a later version wrote fields we do not know."""
    return GenerationRequest.from_json(json.loads(entry.request))


def origin_of(entry: GrisailleResult) -> dict[str, str]:
    """Where a result came from."""
    return json.loads(entry.origin)


def register() -> None:
    bpy.utils.register_class(GrisailleResult)
    bpy.types.Scene.grisaille_history = bpy.props.CollectionProperty(type=GrisailleResult)  # pyright: ignore[reportAttributeAccessIssue]
    bpy.types.Scene.grisaille_history_index = bpy.props.IntProperty(name="Active Result")  # pyright: ignore[reportAttributeAccessIssue]


def unregister() -> None:
    del bpy.types.Scene.grisaille_history_index  # pyright: ignore
    del bpy.types.Scene.grisaille_history  # pyright: ignore
    bpy.utils.unregister_class(GrisailleResult)
