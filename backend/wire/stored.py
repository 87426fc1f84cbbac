"""Finished Results on disk: a folder each, there whole or not at all, until acknowledged.

results/<job id>/result.json, picture.png, control-<kind>.png. The backend writes them; both sides read and remove.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .disk import sync_folder
from .failure import FailureError
from .framing import ProtocolError, parse_json
from .request import CONTROL_KINDS, GenerationRequest
from .result import GenerationResult

FORMAT = 1
PARTIAL = ".partial-"
TRASH = ".trash-"
_JOB_ID = re.compile(r"[0-9a-f]{32}")
_FIELDS = {"format", "job_id", "origin", "finished", "result", "has_picture", "control_kinds"}


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A finished Result that nobody has acknowledged. `finished` is in seconds since the epoch."""

    job_id: str
    result: GenerationResult
    origin: dict[str, str]
    finished: float


def is_job_id(text: object) -> bool:
    """Whether `text` is a job's id: 32 lower-case hexadecimal digits."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None


def is_origin(value: object) -> bool:
    """Whether `value` may stand for where a job came from: a few short texts by name."""
    return (
        isinstance(value, dict)
        and len(value) <= 16
        and all(isinstance(key, str) and isinstance(text, str) for key, text in value.items())
        and all(len(key) <= 64 and len(text) <= 8192 for key, text in value.items())
    )


def result_to_json(result: GenerationResult) -> dict[str, Any]:
    """All of the Result but its pictures."""
    return {
        "request": result.request.to_json(),
        # What the engine noted may hold paths and tuples; a picture is not lost for that.
        "plan": json.loads(json.dumps(result.plan, default=str)),
        "timings": {stage: float(seconds) for stage, seconds in result.timings.items()},
        "peak_memory": int(result.peak_memory),
    }


def result_from_json(data: object, png: bytes, control_pngs: dict[str, bytes]) -> GenerationResult:
    """The Result that `result_to_json` wrote, with its pictures. Raises `ValueError` when it is not one."""
    if not isinstance(data, dict) or set(data) != {"request", "plan", "timings", "peak_memory"}:
        raise ValueError("a result has exactly request, plan, timings and peak_memory")
    plan, timings, peak = data["plan"], data["timings"], data["peak_memory"]
    if not isinstance(plan, dict) or not isinstance(timings, dict) or type(peak) is not int or peak < 0:
        raise ValueError("a result's plan, timings or peak_memory is of the wrong type")
    if not all(type(seconds) in (int, float) for seconds in timings.values()):
        raise ValueError("a result's timings are numbers")
    if not set(control_pngs) <= set(CONTROL_KINDS):
        raise ValueError("a result has pictures of unknown controls")
    try:
        request = GenerationRequest.from_json(data["request"])
    except FailureError as error:
        raise ValueError(str(error)) from error
    return GenerationResult(request, png, control_pngs, plan, timings, peak)


def prepare(results: Path, job_id: str) -> Path:
    """An empty folder for a Result to be written to before it is shown. Raises `OSError`."""
    results.mkdir(parents=True, exist_ok=True)
    partial = results / f"{PARTIAL}{os.getpid()}-{job_id}"
    partial.mkdir(mode=0o700)
    return partial


def discard(partial: Path) -> None:
    """Removes what `prepare` made, if it is still there."""
    shutil.rmtree(partial, ignore_errors=True)


def write(partial: Path, job_id: str, result: GenerationResult, origin: dict[str, str]) -> Path:
    """Writes the Result into `partial` and moves it to its place, whole. Raises `OSError`, and leaves nothing then."""
    note = {
        "format": FORMAT,
        "job_id": job_id,
        "origin": origin,
        "finished": time.time(),
        "result": result_to_json(result),
        "has_picture": bool(result.png),
        "control_kinds": sorted(result.control_pngs),
    }
    target = partial.parent / job_id
    try:
        if result.png:
            _write_synced(partial / "picture.png", result.png)
        for kind, png in result.control_pngs.items():
            _write_synced(partial / f"control-{kind}.png", png)
        _write_synced(partial / "result.json", json.dumps(note, indent=1, allow_nan=False).encode())
        sync_folder(partial)
        partial.rename(target)
        sync_folder(partial.parent)
    except BaseException:
        discard(partial)
        raise
    return target


def read(results: Path, job_id: str) -> StoredResult | None:
    """The stored Result of this job, or None when there is none. Raises `ValueError` when its files are damaged."""
    if not is_job_id(job_id):
        raise ValueError("not the id of a job")
    folder = results / job_id
    try:
        note = parse_json((folder / "result.json").read_bytes())
        if set(note) != _FIELDS or note["format"] != FORMAT or note["job_id"] != job_id:
            raise ValueError(f"{folder.name} was written by another version")
        kinds, finished = note["control_kinds"], note["finished"]
        if not isinstance(kinds, list) or not set(map(str, kinds)) <= set(CONTROL_KINDS):
            raise ValueError(f"{folder.name} has pictures of unknown controls")
        if not is_origin(note["origin"]) or type(finished) not in (int, float):
            raise ValueError(f"{folder.name} has a damaged origin or time")
        png = (folder / "picture.png").read_bytes() if note["has_picture"] else b""
        control_pngs = {kind: (folder / f"control-{kind}.png").read_bytes() for kind in kinds}
    except FileNotFoundError as error:
        if not folder.exists():
            return None
        raise ValueError(f"{folder.name} lacks a file") from error
    except ProtocolError as error:
        raise ValueError(str(error)) from error
    return StoredResult(job_id, result_from_json(note["result"], png, control_pngs), note["origin"], finished)


def stored_ids(results: Path) -> list[str]:
    """The ids of the jobs whose Results are stored, in no particular order."""
    try:
        return [entry.name for entry in os.scandir(results) if is_job_id(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []


def remove(results: Path, job_id: str) -> None:
    """Forgets a stored Result: from one moment to the next it is not there. Nothing happens when it never was."""
    if not is_job_id(job_id):
        raise ValueError("not the id of a job")
    trash = results / f"{TRASH}{os.getpid()}-{job_id}"
    with contextlib.suppress(FileNotFoundError):
        (results / job_id).rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
