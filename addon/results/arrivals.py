"""Brings what the backend sends into the scene: the timer that asks for it, and what undo and loading files need."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import bpy
from bpy.app.handlers import persistent

from ...backend.wire import Failure, FailureError, FailureKind
from .. import preferences, state
from . import files, history, images, origin, placement, preview

if TYPE_CHECKING:
    from ...backend.wire import GenerationResult

BUSY_SECONDS = 0.1
IDLE_SECONDS = 1.0
CONTROL_NAMES = {"depth": "Grisaille Depth", "normal": "Grisaille Normal", "line": "Grisaille Line Art"}


def pump() -> bool:
    """Takes in all that the backend sent since the last call; True when the panel shows something else now.

    The timer calls it. In background no timer ever fires: scripts call it, or wait for a job.
    """
    link = state.get().link
    if link is None:
        return False
    changed = False
    for event in link.poll():
        handle(event)
        changed = True
    return changed


def handle(event: Any) -> None:
    """Takes in one event of the link."""
    current = state.get()
    # By name: after a reload of the add-on the link still sends its old module's classes.
    match type(event).__name__:
        case "Progressed":
            if job := current.jobs.get(event.job_id):
                job.progress = event.progress
        case "Previewed":
            preview.show(event.image)
        case "Finished":
            job = current.jobs.pop(event.job_id, None)
            preview.clear()
            receive(event.job_id, event.result, event.origin, job.output if job else "")
        case "Failed":
            current.jobs.pop(event.job_id, None)
            preview.clear()
            if event.failure.kind != FailureKind.CANCELLED:
                current.failure = event.failure
        case "StateChanged":
            if event.failure is not None:
                current.failure = event.failure


def receive(job_id: str, result: GenerationResult, source: dict[str, str], output: str = "") -> Failure | None:
    """Puts a finished job where it belongs; a failure says what of that could not be done.

    A job of another file stays on disk. A picture that is in the history already is not entered again.
    """
    current = state.get()
    if result.request.task == "show_controls":
        show_controls(result)
        if current.link is not None:
            current.link.acknowledge(job_id)
        return None
    current.kept[job_id] = source
    problem = None
    try:
        if origin.is_of_this_file(source) and job_id not in history.job_ids():
            entry = history.add(origin.scene_of(source), job_id, result.request, result.png, source)
            try:
                apply(entry, source.get("destination", ""))
            finally:
                bpy.ops.ed.undo_push(message="Grisaille Picture")
        if output:
            files.write_whole(output, result.png)
    except FailureError as error:
        problem = current.failure = error.failure
    return problem


def show_controls(result: GenerationResult) -> list[bpy.types.Image]:
    """The pictures that the ControlNets get, as images, shown where Image Editors are open."""
    shown = [images.replace(CONTROL_NAMES[kind], png) for kind, png in result.control_pngs.items()]
    images.show(shown)
    return shown


def apply(entry: history.GrisailleResult, destination: str) -> None:
    """Shows a result in one more place. Raises `FailureError` where that place is not there."""
    from ..capture import View

    source = history.origin_of(entry)
    image = entry.image
    view = View.from_json(json.loads(source["view"]))
    match destination:
        case "CAMERA_BACKGROUND":
            placement.as_camera_background(image, view)
        case "IMAGE_EMPTY":
            placement.as_image_empty(image, view, origin.distance_of(source), origin.scene_of(source))
        case "MATERIAL":
            from ..texturing import project

            if not project(image, view, origin.objects_of(source)):
                raise FailureError.of(
                    FailureKind.BAD_REQUEST,
                    "There is no object to project the picture on.",
                    "Select objects with a surface, then choose Projected Material below the picture.",
                )
        case _:
            images.show([image])


def reattach() -> int:
    """Enters kept results of this file that are not in its history (undone, or finished while it was closed)."""
    current = state.get()
    present = history.job_ids()
    missing = {
        job_id for job_id, source in current.kept.items() if job_id not in present and origin.is_of_this_file(source)
    }
    if not missing or current.link is None:
        return 0
    count = 0
    for stored in current.link.stored_results():
        if stored.job_id in missing and stored.result.png:
            history.add(
                origin.scene_of(stored.origin), stored.job_id, stored.result.request, stored.result.png, stored.origin
            )
            count += 1
    return count


def elsewhere() -> list[str]:
    """Job ids of kept results that are not this file's: of other files, or of unsaved work before."""
    current = state.get()
    return [
        job_id
        for job_id, source in current.kept.items()
        if job_id not in current.saved and not origin.is_of_this_file(source)
    ]


def recover(job_ids: list[str]) -> int:
    """Enters kept results of elsewhere in this file's history, now its own."""
    link = state.get().link
    count = 0
    for stored in link.stored_results() if link else ():
        if stored.job_id in job_ids and stored.result.png:
            source = {**stored.origin, "file": bpy.data.filepath, "session": state.get().session}
            history.add(origin.scene_of(source), stored.job_id, stored.result.request, stored.result.png, source)
            state.get().kept[stored.job_id] = source
            count += 1
    return count


def discard(job_ids: list[str]) -> None:
    """Deletes kept results from the disk, for good."""
    current = state.get()
    for job_id in job_ids:
        if current.link is not None:
            current.link.acknowledge(job_id)
        current.kept.pop(job_id, None)


def look_on_disk() -> None:
    """Learns what earlier sessions left. Only where something is there: it loads the link otherwise not needed."""
    folder = preferences.data_folder() / "results"
    try:
        if next(os.scandir(folder), None) is None:
            return
        link = state.get().connect(preferences.backend_place())
    except (OSError, FailureError):  # no folder, or no backend set up yet: nothing can be shown
        return
    for stored in link.stored_results():
        state.get().kept.setdefault(stored.job_id, stored.origin)


def tick() -> float:
    """The timer."""
    if pump():
        redraw()
    return BUSY_SECONDS if state.get().jobs else IDLE_SECONDS


def redraw() -> None:
    """Has the panels drawn again that show jobs."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


@persistent
def _on_load(*_: object) -> None:
    state.acknowledge_saved(state.get())
    state.get().new_file()
    look_on_disk()
    if not bpy.data.is_dirty:  # a recovered file is in memory only
        state.get().saved = history.job_ids() & set(state.get().kept)
    reattach()


@persistent
def _on_undo(*_: object) -> None:
    reattach()


@persistent
def _on_save(*arguments: object) -> None:
    path = next((argument for argument in arguments if isinstance(argument, str)), "")
    if path in ("", bpy.data.filepath):  # not a copy, which holds the results but is not the file that stays open
        state.get().saved = history.job_ids() & set(state.get().kept)


HANDLERS = (
    ("load_post", _on_load),
    ("undo_post", _on_undo),
    ("redo_post", _on_undo),
    ("save_post", _on_save),
)


def register() -> None:
    for name, handler in HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        if handler not in handlers:
            handlers.append(handler)
    if not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=IDLE_SECONDS, persistent=True)


def unregister() -> None:
    preview.clear()
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    for name, handler in HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
