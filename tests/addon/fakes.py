"""A link to no backend: it takes jobs, and the test says what becomes of them."""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import fields
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

PACKAGE = "bl_ext.user_default.grisaille"


def module(name: str) -> Any:
    """A module of the installed extension."""
    return import_module(f"{PACKAGE}.{name}")


def ops() -> Any:
    """bpy.ops.grisaille"""
    import bpy

    return cast("Any", bpy.ops).grisaille


def scene() -> Any:
    """The open scene, with the properties that the extension gives it."""
    import bpy

    return bpy.context.scene


def forget_all() -> None:
    """Empties the add-on's state, as in a Blender that has just been started; a link stays."""
    state = module("addon.state")
    fresh, current = state.State(), state.get()
    for item in fields(state.State):
        if item.name not in ("command", "previews", "link", "place", "data_folder"):
            setattr(current, item.name, getattr(fresh, item.name))


def png(width: int = 64, height: int = 48, rgb: tuple[int, int, int] = (200, 100, 50)) -> bytes:
    """A PNG file of one colour."""
    rows = (b"\0" + bytes(rgb) * width) * height

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class FakeLink:
    """Answers as `addon.link.Link` does. `answer` makes the outcome of a waited-for job; `events` are polled."""

    api_version = 1

    def __init__(self, place: Any) -> None:
        self.place = place
        self.submitted: dict[str, tuple[Any, Any, dict[str, str]]] = {}
        self.results = place.data_folder / "results"
        self.acknowledged: list[str] = []
        self.cancelled: list[str] = []
        self.events: list[Any] = []
        self.is_closed = False
        self.answer: Any = None

    @property
    def on_disk(self) -> set[str]:
        """The ids of the results that are kept."""
        return set(module("backend.wire.stored").stored_ids(self.results))

    def submit(self, request: Any, maps: Any, origin: dict[str, str]) -> str:
        job_id = uuid.uuid4().hex
        self.submitted[job_id] = (request, maps, origin)
        return job_id

    def finish(self, job_id: str, image: bytes | None = None) -> Any:
        """The job's Result, on disk from now on, and announced."""
        result = self._result(job_id, image)
        self.events.append(_event("Finished", job_id=job_id, result=result, origin=self.submitted[job_id][2]))
        return result

    def fail(self, job_id: str, failure: Any) -> None:
        self.events.append(_event("Failed", job_id=job_id, failure=failure, origin=self.submitted[job_id][2]))

    def progress(self, job_id: str, progress: Any) -> None:
        self.events.append(_event("Progressed", job_id=job_id, progress=progress))

    def preview(self, job_id: str, image: Any) -> None:
        self.events.append(_event("Previewed", job_id=job_id, image=image))

    def wait(self, job_id: str, on_event: Any = None) -> Any:
        wire = module("backend.wire")
        if on_event is not None:
            on_event(_event("Progressed", job_id=job_id, progress=wire.Progress("denoising", 1, 4, 0.25)))
        return self.answer if self.answer is not None else self._result(job_id, None)

    def poll(self) -> list[Any]:
        events, self.events = self.events, []
        return events

    def acknowledge(self, job_id: str) -> None:
        self.acknowledged.append(job_id)
        module("backend.wire.stored").remove(self.results, job_id)

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    def cancel_all(self) -> None:
        self.cancelled.extend(self.submitted)

    def close(self) -> None:
        self.is_closed = True

    def _result(self, job_id: str, image: bytes | None) -> Any:
        request, _, origin = self.submitted[job_id]
        wire = module("backend.wire")
        if request.task == "show_controls":
            pictures = {control.kind: png(request.width, request.height) for control in request.controls}
            result = wire.GenerationResult(request, control_pngs=pictures)
        elif request.task == "show_prompt":
            counts = {"T5": [9, 512], "CLIP": [8, 77]}
            plan = {"prompt": f"{request.prompt}, well lit", "tokens": counts, "note": "Look."}
            result = wire.GenerationResult(request, plan=plan)
        else:
            result = wire.GenerationResult(request, image or png(request.width, request.height))
        stored = module("backend.wire.stored")
        stored.write(stored.prepare(self.results, job_id), job_id, result, origin)
        return result


def _event(name: str, **fields: Any) -> Any:
    return type(name, (SimpleNamespace,), {})(**fields)
