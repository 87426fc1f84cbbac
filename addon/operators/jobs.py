"""From what the user asks for to a job on its way: the path that all operators and the command line share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import bpy

from ...backend.wire import (
    ControlMaps,
    Failure,
    FailureError,
    FailureKind,
    GenerationRequest,
    GenerationResult,
    snap_size,
)
from .. import preferences, settings, state
from ..results import arrivals, files, origin
from . import start

if TYPE_CHECKING:
    from ...backend.wire import Progress
    from ..capture import Capture
    from ..link import BackendPlace


@dataclass(frozen=True)
class Order:
    """What the user asks for, before anything is captured or started.

    source: "CAMERA" or "VIEWPORT". camera: an object's name, "" for the scene's camera. line_source: "edges" or
    "freestyle". destination: see `choices.DESTINATIONS`. output: a file for the picture, or "". image, mask: names of
    the images that it starts from, where the Request's task does. reference: the name of one to take up, or "".
    """

    request: GenerationRequest
    source: str = "CAMERA"
    camera: str = ""
    line_source: str = "edges"
    destination: str = "IMAGE_EDITOR"
    output: str = ""
    image: str = ""
    mask: str = ""
    reference: str = ""


def order_from_settings(context: bpy.types.Context, new_seed: bool = False) -> Order:
    """The order that the scene's settings make. `new_seed`: draw one, and show it, unless the seed is locked."""
    scene = context.scene
    chosen = settings.of(scene)
    if new_seed and not chosen.seed_locked:
        chosen.seed = random.randint(0, settings.SEED_MAX)
    view = find_view(context)
    size = snap_size(*settings.wanted_size(chosen, scene, view[1] if view else None))
    return Order(
        settings.to_request(chosen, *size, chosen.seed),
        source=chosen.source,
        line_source=chosen.line_source.lower(),
        destination=chosen.destination,
        image=chosen.start_image.name if chosen.start_image else "",
        mask=chosen.start_mask.name if chosen.start_mask else "",
        reference=chosen.reference_image.name if chosen.reference_image else "",
    )


def find_view(context: bpy.types.Context) -> tuple[Any, Any] | None:
    """The 3D view's space and region to look from: the one under the mouse, else the window's largest."""
    area = context.area
    if area is None or area.type != "VIEW_3D":
        screen = context.screen
        areas = [a for a in (screen.areas if screen else ()) if a.type == "VIEW_3D"]
        area = max(areas, key=lambda a: a.width * a.height, default=None)
    if area is None:
        return None
    region = next((r for r in area.regions if r.type == "WINDOW"), None)
    return (area.spaces.active, region) if region else None


def check(order: Order) -> None:
    """Raises `FailureError` when the order cannot be filled, before anything is captured."""
    # What the caller asked for is told before what is not set up.
    replace(order.request, model=order.request.model or "none").check()
    start.check(order)
    if order.camera:
        named_camera(order.camera)
    if not order.request.model and order.request.is_painted:
        raise FailureError.of(
            FailureKind.MODEL_MISSING,
            f"There is no model in {preferences.models_folder()}.",
            "Put a model's folder there, or set Models Folder in the add-on's preferences.",
        )
    if order.output:
        files.check_writable(order.output)


def named_camera(name: str) -> bpy.types.Object:
    """The camera of that name. Raises `FailureError` (bad_request), naming those that are there."""
    found = bpy.data.objects.get(name)
    if found is None or found.type != "CAMERA":
        there = ", ".join(sorted(o.name for o in bpy.data.objects if o.type == "CAMERA"))
        raise FailureError.of(
            FailureKind.BAD_REQUEST,
            f"There is no camera called {name!r} in this file.",
            f"Use one of: {there}." if there else "Add a camera to the scene.",
        )
    return found


def capture(context: bpy.types.Context, order: Order) -> Capture:
    """The maps and the view for an order. Raises `FailureError` (capture_failed)."""
    from .. import capture as room

    request = order.request
    kinds = tuple(control.kind for control in request.controls)
    if order.source == "VIEWPORT":
        view = find_view(context)
        if view is None:
            raise FailureError.of(
                FailureKind.CAPTURE_FAILED,
                "There is no 3D view to look from.",
                "Open a 3D view, or set View to Camera.",
            )
        return room.capture_viewport(context, *view, request.width, request.height, kinds)
    return room.capture_camera(
        context,
        request.width,
        request.height,
        kinds,
        camera=named_camera(order.camera) if order.camera else None,
        line_source="freestyle" if order.line_source == "freestyle" else "edges",
    )


def begin(context: bpy.types.Context, order: Order, place: BackendPlace | None = None) -> str:
    """Captures, and hands the job to the link, which starts the backend when there is none; returns the job's id.

    Returns at once. Raises `FailureError` with nothing begun.
    """
    check(order)
    place = place or preferences.backend_place()
    current = state.get()
    current.failure = None
    maps, source = ControlMaps(), origin.make(context.scene, None, order.destination, 0.0)
    if order.request.task == "enhance":
        maps = start.with_source(maps, order)
        source |= origin.of_image(start.named_image(order.image), order.request)
    elif order.request.task != "show_prompt":
        captured = capture(context, order)
        current.failure = captured.note
        maps = start.with_source(captured.maps, order)
        source = origin.make(context.scene, captured.view, order.destination, nearest(captured))
    link = current.connect(place)
    job_id = link.submit(order.request, maps, source)
    current.jobs[job_id] = state.Job(job_id, order.request, source, selected_surfaces(context), order.output)
    return job_id


def selected_surfaces(context: bpy.types.Context) -> tuple[str, ...]:
    """Names of the selected objects that can have materials."""
    # Not context.selected_objects: there is no such thing under Blender's --command.
    return tuple(found.name for found in context.view_layer.objects.selected if hasattr(found.data, "materials"))


def nearest(captured: Capture) -> float:
    """The distance of the nearest thing in scene units; 0 without a depth map or anything in it."""
    depth = captured.maps.depth
    if depth is None:
        return 0.0
    import numpy as np

    least = float(np.min(depth))
    return least if np.isfinite(least) and least > 0.0 else 0.0


def run(
    context: bpy.types.Context,
    order: Order,
    *,
    place: BackendPlace | None = None,
    into_scene: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[str, GenerationResult]:
    """The blocking path, for scripts and for background: returns when the picture is there, with the job's id.

    into_scene: enter it in the history and show it; else it is the caller's to keep and to acknowledge.
    Raises `FailureError`.
    """
    job_id = begin(context, order, place)
    current = state.get()
    assert current.link is not None
    job = current.jobs[job_id]

    def on_event(event: Any) -> None:
        if getattr(event, "job_id", None) == job_id and hasattr(event, "progress"):
            job.progress = event.progress
            if on_progress is not None:
                on_progress(event.progress)

    try:
        outcome: Any = current.link.wait(job_id, on_event)
    finally:
        current.jobs.pop(job_id, None)
    # By its fields: after a reload of the add-on the link's classes are the old module's.
    if hasattr(outcome, "hint"):
        current.failure = outcome
        raise FailureError(outcome)
    if into_scene:
        problem = arrivals.receive(job_id, outcome, job.origin, job)
        if problem is not None:
            raise FailureError(problem)
    return job_id, outcome


def show_controls_order(order: Order) -> Order:
    """The same order for the pictures the ControlNets would get. Raises `FailureError` when no control is on."""
    if not order.request.controls:
        raise FailureError.of(
            FailureKind.BAD_REQUEST, "No control is on.", "Switch one on in the Controls panel and try again."
        )
    return replace(order, request=replace(order.request, task="show_controls"), output="")


def show_prompt_order(order: Order) -> Order:
    """The same order for what becomes of its prompt alone; nothing is captured for it."""
    request = replace(order.request, task="show_prompt", controls=(), stages=(), reference_strength=0.0)
    return replace(order, request=request, output="")


def fail(operator: bpy.types.Operator, failure: Failure) -> set[str]:
    """Tells the user, in the panel and in the status bar (in scripts: raises RuntimeError)."""
    state.get().failure = failure
    operator.report({"ERROR"}, str(failure))
    return {"CANCELLED"}
