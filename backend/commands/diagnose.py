"""python -m backend diagnose: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from ..diagnostics import Finding

FORMAT = 1
"""Of what --json writes; its keys are added to, and not taken away, while this stays."""
WORKS, FAULTS = 0, 1


def add_to(commands: Any) -> None:
    """commands: of `argparse.ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "diagnose",
        help="say what works on this machine, and what to do about the rest",
        description="Looks at the device, the driver, memory, the disk, the folders, the socket and every model's "
        "files, and paints one step with each model. Ends with 0 where all that is needed works, else with 1.",
    )
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="your models, beside those that ship")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the backend keeps pictures and logs")
    parser.add_argument("--device", default="auto", help='"auto", "cpu", "cuda:1" …')
    parser.add_argument("--quick", action="store_true", help="neither compile nor paint")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write one JSON object, for programs")
    form.add_argument(
        "--report", action="store_true", help="write a report for a bug tracker, without names, folders and prompts"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Returns the exit code: 0 where all that is needed works, else 1."""
    from ..diagnostics import bug_report, run_full_diagnostic
    from ..diagnostics.finding import marks_for

    out = _any_terminal(sys.stdout)
    marks, is_plain = marks_for(out.encoding), not (options.json or options.report)

    def tell(finding: Finding) -> None:
        if is_plain:
            print(finding.line(marks), file=out, flush=True)

    try:
        findings = run_full_diagnostic(
            options.models, options.device, data_folder=options.data, quick=options.quick, on_finding=tell
        )
        if not is_plain:
            report = bug_report(findings, models_folder=options.models, data_folder=options.data)
            print(report if options.report else as_json(findings, report), file=out, flush=True)
    except BrokenPipeError:
        # Whoever read has read enough; Python would say so again when it ends.
        with suppress(OSError):
            sys.stdout = None
        return FAULTS
    return FAULTS if any(finding.is_fault for finding in findings) else WORKS


def as_json(findings: list[Finding], report: str) -> str:
    """One line of ASCII, whatever the terminal: format, works, findings (see `Finding`) and the report."""
    works = not any(finding.is_fault for finding in findings)
    told = [finding.to_json() for finding in findings]
    return json.dumps({"format": FORMAT, "works": works, "findings": told, "report": report}, default=str)


def _any_terminal(stream: TextIO) -> TextIO:
    """The stream, made to write what its encoding cannot as numbers in place of raising."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return stream
