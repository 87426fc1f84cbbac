"""Brings what the backend sends into the scene: the timer that asks for it, and what undo and loading files need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import bpy
from bpy.app.handlers import persistent

from ...backend.wire import Failure, FailureError, FailureKind
from .. import state
from ..choices import CONTROL_LABELS
from . import files, history, images, kept, origin, placement, preview

if TYPE_CHECKING:
    from ...backend.wire import GenerationResult

BUSY_SECONDS = 0.1
IDLE_SECONDS = 1.0


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
            receive(event.job_id, event.result, event.origin, job)
        case "Failed":
            current.jobs.pop(event.job_id, None)
            preview.clear()
            if event.failure.kind != FailureKind.CANCELLED:
                current.failure = event.failure
        case "StateChanged":
            if event.failure is not None:
                current.failure = event.failure


def receive(
    job_id: str, result: GenerationResult, source: dict[str, str], job: state.Job | None = None
) -> Failure | None:
    """Puts a finished job where it belongs; a failure says what of that could not be done.

    A job of another file stays on disk. A picture that is in the history already is not entered again.
    """
    current = state.get()
    if result.request.task == "show_controls":
        show_controls(result)
        kept.forget(job_id)
        return None
    if result.request.task == "show_prompt":
        current.shown_prompt = shown_prompt(result)
        kept.forget(job_id)
        return None
    current.kept[job_id] = source
    problem = None
    try:
        if origin.is_of_this_file(source) and job_id not in history.job_ids():
            entry = history.add(origin.scene_of(source), job_id, result.request, result.png, source)
            try:
                apply(entry, source.get("destination", ""), job.objects if job else ())
            finally:
                bpy.ops.ed.undo_push(message="Grisaille Picture")
        if job is not None and job.output:
            files.write_whole(job.output, result.png)
    except FailureError as error:
        problem = current.failure = error.failure
    return problem


def show_controls(result: GenerationResult) -> list[bpy.types.Image]:
    """The pictures that the ControlNets get, as images, shown where Image Editors are open."""
    shown = [images.replace(f"Grisaille {CONTROL_LABELS[kind]}", png) for kind, png in result.control_pngs.items()]
    images.show(shown)
    state.get().control_note = str(result.plan.get("note", ""))
    return shown


def shown_prompt(result: GenerationResult) -> state.ShownPrompt:
    """The prompt that a picture would be painted from, and what there is to say of it."""
    request, plan = result.request, result.plan
    tokens = plan.get("tokens")
    counts = tokens.items() if isinstance(tokens, dict) else ()
    return state.ShownPrompt(
        (request.prompt, request.style, request.enhance),
        str(plan.get("prompt", request.prompt)),
        ", ".join(f"{name} {count[0]} of {count[1]}" for name, count in counts),
        str(plan.get("note", "")),
    )


def apply(entry: history.GrisailleResult, destination: str, objects: Iterable[str]) -> None:
    """Shows a result in one more place. `objects`: names of those that a projected material goes on.

    Raises `FailureError` where that place is not there.
    """
    source = history.origin_of(entry)
    image = entry.image
    match destination:
        case "CAMERA_BACKGROUND":
            placement.as_camera_background(image, origin.view_of(source))
        case "IMAGE_EMPTY":
            view = origin.view_of(source)
            placement.as_image_empty(image, view, origin.distance_of(source), origin.scene_of(source))
        case "MATERIAL":
            from ..texturing import project

            there: list[Any] = [found for name in objects if (found := bpy.data.objects.get(name)) is not None]
            if not project(image, origin.view_of(source), there):
                raise FailureError.of(
                    FailureKind.BAD_REQUEST,
                    "There is no object to project the picture on.",
                    "Select objects with a surface, then choose Projected Material below the picture.",
                )
        case _:
            images.show([image])


def reattach() -> int:
    """Enters kept results of this file that are not in its history (undone, or finished while it was closed)."""
    present = history.job_ids()
    of_this_file = [job_id for job_id, source in state.get().kept.items() if origin.is_of_this_file(source)]
    return sum(_enter(job_id) for job_id in of_this_file if job_id not in present)


def _enter(job_id: str) -> bool:
    """Enters a kept result in the history, without placing it or a step of undo: an undo may be going on."""
    found = kept.read(job_id)
    if found is None or not found.result.png:
        return False
    source = state.get().kept[job_id]
    entry = history.add(origin.scene_of(source), job_id, found.result.request, found.result.png, source)
    images.show_where_empty(entry.image)
    return True


def elsewhere() -> list[str]:
    """Job ids of kept results that are not this file's: of other files, or of unsaved work before."""
    current = state.get()
    return [
        job_id
        for job_id, source in current.kept.items()
        if job_id not in current.saved and not origin.is_of_this_file(source)
    ]


def recover(job_ids: list[str]) -> int:
    """Enters kept results of elsewhere in this file's history, now its own; returns how many."""
    current = state.get()
    count = 0
    for job_id in job_ids:
        current.kept[job_id] |= {"file": bpy.data.filepath, "session": current.session}
        count += _enter(job_id)
    return count


def tick() -> float:
    """The timer."""
    if not state.get().has_looked:  # the add-on was switched on after the file was loaded
        _look()
    if pump():
        redraw()
    return BUSY_SECONDS if state.get().jobs else IDLE_SECONDS


def redraw() -> None:
    """Has the panels drawn again that show jobs."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "IMAGE_EDITOR"):
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


def _look() -> None:
    current = state.get()
    current.has_looked = True
    kept.look()
    if not bpy.data.is_dirty:  # a file that was recovered is in memory only
        current.saved = history.job_ids() & set(current.kept)
    reattach()


@persistent
def _on_load(*_: object) -> None:
    kept.forget_saved()
    state.get().new_file()
    _look()


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
