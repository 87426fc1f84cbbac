"""Measures how long Blender's window is held up by us while a job runs, and while none does."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))
import window

SECONDS, ROUNDS = 15.0, 3


def preemptions() -> int:
    """How often another process took the processor from this thread; 0 where the system does not say."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    except (ImportError, AttributeError):
        return 0


class Stopwatch:
    """Notes the longest single run, in seconds, of each function it wraps.

    By the clock on the wall, so that waiting for a lock counts; but a run in which another process took the processor
    away counts by its own processor time.
    """

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            taken = preemptions()
            wall, own = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                wall, own = time.perf_counter() - wall, time.thread_time() - own
                spent = wall if preemptions() == taken else own
                self.longest[name] = max(self.longest.get(name, 0.0), spent)

        return timed


class Watch(Stopwatch):
    """Of our callbacks; `parts` of what they call."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = Stopwatch()


def watch_callbacks(watch: Watch) -> None:
    """Wraps every panel's and list's draw, the timer, and the handlers of the extension."""
    for kind in (bpy.types.Panel, bpy.types.UIList, bpy.types.Menu):
        for cls in kind.__subclasses__():
            if cls.__module__.startswith(window.PACKAGE):
                for name in ("draw", "draw_header", "draw_item"):
                    if inspect.isfunction(vars(cls).get(name)):
                        setattr(cls, name, _method(watch.wrap(f"{cls.__name__}.{name}", vars(cls)[name]), name))
    arrivals = window.module("addon.results.arrivals")
    bpy.app.timers.unregister(arrivals.tick)
    bpy.app.timers.register(watch.wrap("timer", arrivals.tick), persistent=True)
    for owner, name in _parts_of_the_timer():
        setattr(owner, name, watch.parts.wrap(f"{owner.__name__}.{name}", getattr(owner, name)))
    for name, _ in arrivals.HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        for index, handler in enumerate(handlers):
            if handler.__module__.startswith(window.PACKAGE):
                handlers[index] = bpy.app.handlers.persistent(watch.wrap(name, handler))


def _parts_of_the_timer() -> list[tuple[Any, str]]:
    """What the timer calls: told beside the verdict, so that a slow timer says where its time went."""
    results = {name: window.module(f"addon.results.{name}") for name in ("arrivals", "preview", "history", "images")}
    return [
        (results["arrivals"], "handle"),
        (results["arrivals"], "apply"),
        (results["arrivals"], "redraw"),
        (results["preview"], "show"),
        (results["preview"], "clear"),
        (results["history"], "add"),
        (results["images"], "pack"),
    ]


def _method(timed: Callable[..., Any], name: str) -> Callable[..., Any]:
    # Blender counts the parameters of the functions that it calls.
    if name == "draw_item":
        return lambda self, context, layout, data, item, icon, active_data, active_property, index=0: timed(
            self, context, layout, data, item, icon, active_data, active_property, index
        )
    return lambda self, context: timed(self, context)


def ticks(go_on: Callable[[], bool]) -> Generator[float, None, list[float]]:
    """The gaps, in seconds, between timer ticks of a window whose 3D view redraws at every tick."""
    gaps: list[float] = []
    last = time.perf_counter()
    while go_on():
        window.view3d()["area"].tag_redraw()
        yield 0.0
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
    return gaps


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def generate() -> None:
    with bpy.context.temp_override(**window.view3d()):
        bpy.ops.grisaille.generate("INVOKE_DEFAULT")


def steps(settings: dict[str, Any]) -> window.Steps:
    yield 2.0  # what the timer does once, soon after the start, is not of a job
    watch = Watch()
    watch_callbacks(watch)
    scene = bpy.context.scene
    window.set_scene("a wooden cube", side=512)
    scene.grisaille.steps = 200
    state = window.module("addon.state").get()
    yield from window.show_panel()
    quiet: list[float] = []
    busy: list[float] = []
    was_running = True
    watch.longest.clear()
    # By turns: the machine has moods of its own that last for seconds.
    for _ in range(ROUNDS):
        quiet += yield from ticks(for_seconds(SECONDS))
        generate()
        yield from window.until(lambda: any(job.progress for job in state.jobs.values()), window.GIVE_UP_SECONDS)
        busy += yield from ticks(for_seconds(SECONDS))
        was_running = was_running and bool(state.jobs)
        bpy.ops.grisaille.cancel()
        yield from window.until(lambda: not state.jobs, window.GIVE_UP_SECONDS)
    scene.grisaille.steps = 2
    generate()
    yield from window.until(lambda: len(scene.grisaille_history) == 1, window.GIVE_UP_SECONDS)
    return {
        "quiet": quiet,
        "busy": busy,
        "longest": watch.longest,
        "parts": watch.parts.longest,
        "was_running": was_running,
    }


window.drive(steps)
