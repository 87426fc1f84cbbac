"""blender -b --command grisaille diagnose: the backend's diagnosis, as the preferences show it.

Exit status: 0 where all that pictures need works, 1 where it does not.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backend.wire import Failure, FailureError

if TYPE_CHECKING:
    import argparse

NAME = "diagnose"
WORKS, FAULTS = 0, 1
MARKS = {"works": "ok", "fails": "FAIL", "skipped": "skip"}


def add_to(commands: Any) -> None:
    """commands: of `argparse.ArgumentParser.add_subparsers`."""
    add = commands.add_parser(
        NAME, help="say what works, and what to do about the rest", allow_abbrev=False
    ).add_argument
    add("--quick", action="store_true", help="neither compile nor paint")
    add("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    add("--report", type=Path, metavar="FILE", help="write a report for a bug tracker, without names and folders")
    add("--backend-python", type=Path, metavar="FILE", help="the backend's Python (default: the preferences')")
    add("--models", type=Path, metavar="FOLDER", help="the models folder (default: the preferences')")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from . import preferences
    from .link.diagnosis import Diagnosis
    from .results.files import write_whole

    try:
        found = Diagnosis(preferences.backend_place(options.backend_python, options.models), options.quick).wait()
        if isinstance(found, Failure):
            raise FailureError(found)
        for line in found.lines:
            text = f"grisaille: {MARKS[line.state]} {line.subject}: {line.said} {line.hint}".strip()
            # Blender's stdout may not be able to write what a folder is called.
            print(text.encode("ascii", "backslashreplace").decode(), flush=True)
        for path, content in ((options.json, json.dumps(asdict(found), indent=2)), (options.report, found.report)):
            if path is not None:
                write_whole(path.absolute(), content.encode())
    except FailureError as error:
        print(f"grisaille: {error.failure}", file=sys.stderr)
        if error.failure.detail:
            print(error.failure.detail, file=sys.stderr)
        return FAULTS
    return WORKS if found.works else FAULTS
